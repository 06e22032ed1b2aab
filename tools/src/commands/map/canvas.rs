//! The few elements of SVG that the picture is made of, written as text.
//!
//! A picture has rectangles and lines of text, no scripts, no fonts of its own
//! and no links. A rectangle may carry a title, which browsers show when the
//! pointer rests on it. Coordinates are rounded to a hundredth.

use std::fmt::{self, Write};

/// A picture that is being drawn, in pixels from its left upper corner.
pub struct Canvas {
    width: f64,
    body: String,
}

/// A rectangle.
#[derive(Debug, Clone, Copy)]
pub struct Rect {
    /// Its left edge.
    pub x: f64,
    /// Its upper edge.
    pub y: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
}

/// How a line of text looks.
#[derive(Debug, Clone, Copy)]
pub struct Font {
    /// Its size in pixels.
    pub size: f64,
    /// Its colour.
    pub fill: &'static str,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether all characters are of the same width.
    pub mono: bool,
    /// `start`, `middle` or `end`: which part of it is at the given place.
    pub anchor: &'static str,
}

const SANS: &str = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";
const MONO: &str = "ui-monospace, 'SF Mono', Consolas, 'DejaVu Sans Mono', monospace";

impl Canvas {
    /// An empty picture of that width.
    pub fn new(width: f64) -> Canvas {
        Canvas { width, body: String::new() }
    }

    /// A rectangle with its colour, and what to tell about it.
    pub fn rect(&mut self, rect: Rect, fill: &str, title: Option<&str>) {
        self.shape(rect, &format!("fill=\"{fill}\""), title);
    }

    /// A rectangle with attributes of its own.
    pub fn shape(&mut self, rect: Rect, attributes: &str, title: Option<&str>) {
        let Rect { x, y, width, height } = rect;
        let (x, y, width, height) = (Number(x), Number(y), Number(width), Number(height));
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {attributes}"
        ));
        match title {
            None => self.put("/>\n"),
            Some(title) => {
                self.put(format_args!("><title>{}</title></rect>\n", Escaped(title)));
            }
        }
    }

    /// A line of text whose baseline is at `y`.
    pub fn text(&mut self, x: f64, y: f64, font: Font, text: &str) {
        let text = Escaped(text);
        let open = Text { x, y, font };
        self.put(format_args!("{open}{text}</text>\n"));
    }

    /// A line of text in two colours, with some room between.
    pub fn two_texts(&mut self, x: f64, y: f64, font: Font, a: &str, fill: &str, b: &str) {
        let (a, b) = (Escaped(a), Escaped(b));
        let open = Text { x, y, font };
        self.put(format_args!("{open}{a}<tspan dx=\"7\" fill=\"{fill}\">{b}</tspan></text>\n"));
    }

    /// The file, for a picture of that height on a background.
    pub fn finish(self, height: f64, title: &str, definitions: &str, background: &str) -> String {
        let (width, height, title) = (Number(self.width), Number(height), Escaped(title));
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{SANS}\">\n\
             <title>{title}</title>\n\
             <defs>{definitions}</defs>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"{background}\"/>\n\
             {}</svg>\n",
            self.body
        )
    }

    fn put(&mut self, text: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.body, "{text}");
    }
}

/// The beginning of a line of text.
struct Text {
    x: f64,
    y: f64,
    font: Font,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Font { size, fill, bold, mono, anchor } = self.font;
        let (x, y, size) = (Number(self.x), Number(self.y), Number(size));
        write!(f, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"")?;
        if bold {
            f.write_str(" font-weight=\"600\"")?;
        }
        if mono {
            write!(f, " font-family=\"{MONO}\"")?;
        }
        if anchor != "start" {
            write!(f, " text-anchor=\"{anchor}\"")?;
        }
        f.write_str(">")
    }
}

/// A number with at most two digits behind the point.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (self.0 * 100.0).round() / 100.0)
    }
}

/// Text between tags. It holds no control characters: names and paths were
/// escaped before.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // The two that no escape makes valid in XML.
                '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Font = Font { size: 9.0, fill: "red", bold: false, mono: false, anchor: "start" };

    #[test]
    fn names_cannot_leave_their_place_in_the_picture() {
        let mut canvas = Canvas::new(10.0);
        canvas.text(0.0, 0.0, PLAIN, "</text><script>\"&\u{ffff}");
        let picture = canvas.finish(10.0, "a<b", "", "white");
        assert!(!picture.contains("<script"), "{picture}");
        assert!(picture.contains("&lt;/text&gt;&lt;script&gt;&quot;&amp;\u{fffd}</text>"));
        assert!(picture.contains("<title>a&lt;b</title>"));
    }

    #[test]
    fn numbers_are_short() {
        let mut canvas = Canvas::new(10.0);
        let rect = Rect { x: 1.0 / 3.0, y: 2.0, width: 0.999, height: 0.5 };
        canvas.rect(rect, "red", None);
        let expected = "<rect x=\"0.33\" y=\"2\" width=\"1\" height=\"0.5\" fill=\"red\"/>";
        assert!(canvas.finish(1.0, "", "", "white").contains(expected));
    }
}
