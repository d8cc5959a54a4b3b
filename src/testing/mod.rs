//! For tests: a virtual clock, a lossy link, fixtures, a gate without keys.
