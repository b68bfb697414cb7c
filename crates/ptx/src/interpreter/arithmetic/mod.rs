//! What instructions compute, lane by lane: integers, floats, halves, conversions, comparisons, approximations.
