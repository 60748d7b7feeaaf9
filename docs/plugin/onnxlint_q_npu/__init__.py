"""Rules of one hardware team: there is no list, every rule in a module of this package is found."""
