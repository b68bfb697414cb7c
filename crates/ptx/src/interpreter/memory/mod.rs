//! Memory, and the order of accesses to it: bounds, initialisation, races.
