//! The real agent as its own process: what a user types, calls and kills.

mod agent;
mod command_line;
mod kill;
mod main_job;
mod running;
