//! The overlay. (The lead is writing this and `fs/gofer` right now.)
