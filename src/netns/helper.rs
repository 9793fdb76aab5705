//! The host's own interface among its macvlan deckies.
