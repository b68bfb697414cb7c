//! What the lanes of a warp exchange: shuffles, votes, matches, reductions.
