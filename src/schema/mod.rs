//! tmp
mod tokens;
