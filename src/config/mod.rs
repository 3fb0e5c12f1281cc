//! From TOML files to a checked [`model::Config`].

pub mod model;
