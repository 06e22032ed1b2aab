//! How long keys and values may be.

/// The longest key, in bytes.
pub const MAX_KEY_LENGTH: usize = 32_767;

/// The longest value, in bytes: 1 GiB - 64 KiB.
pub const MAX_VALUE_LENGTH: usize = (1 << 30) - (64 << 10);
