//! This package holds tests over the whole workspace and nothing else.
