//! Tests over the whole workspace.

mod architecture;
mod files;
mod whole;
