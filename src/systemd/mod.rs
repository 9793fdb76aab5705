//! The service manager over D-Bus: states of our units, start, stop. polkit decides
//! what an unprivileged caller may do.
