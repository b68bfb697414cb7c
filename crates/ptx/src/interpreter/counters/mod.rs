//! What a launch has done, counted, and what that means for a named GPU.
