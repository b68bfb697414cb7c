//! x
mod collective;
mod devices;
mod lines;
mod resources;
mod ring;
