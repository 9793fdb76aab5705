//! Tests of `decoy`.
