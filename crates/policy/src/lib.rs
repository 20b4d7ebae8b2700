//! Who may do what: Cedar policies compiled, decided and explained.
