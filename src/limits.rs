//! How long keys and values may be.
//!
//! The two limits are those of the format: 15 bits of a length in the control
//! line, and a record of 1 GiB. The others (payloads, names, batches) belong to who
//! checks them, and are listed in section 10 of format.md.

/// The longest key, in bytes.
pub const MAX_KEY_LENGTH: usize = 32_767;

/// The longest value, in bytes: 1 GiB - 64 KiB.
pub const MAX_VALUE_LENGTH: usize = (1 << 30) - (64 << 10);
