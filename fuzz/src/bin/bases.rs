//! Writes the bases of the fuzz targets anew: `cargo +nightly run --bin bases`.
//!
//! Inputs that were found with other bases mean something else afterwards. So
//! this is for a change of the format, or of what the bases should hold.

use swissdb_fuzz::bases::pack;
use swissdb_fuzz::image::{Image, shrink_logs};
use swissdb_fuzz::recipe::{Made, closed, killed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/bases");
    let write = |name: &str, made: Made| -> Result<(), Box<dyn std::error::Error>> {
        let mut image = Image::of(&made.memory)?;
        shrink_logs(&mut image);
        let packed = pack(&image);
        println!("{name}: {} bytes", packed.len());
        Ok(std::fs::write(format!("{directory}/{name}"), packed)?)
    };
    write("closed", closed()?)?;
    write("killed", killed()?)
}
