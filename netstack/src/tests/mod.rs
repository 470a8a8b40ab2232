//! Tests of the whole stack.
