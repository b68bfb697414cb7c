//! What is counted and estimated, against figures worked out by hand.

mod forms;
mod roofline;
