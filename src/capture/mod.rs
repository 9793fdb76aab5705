//! Deciding parts of the capture path.
