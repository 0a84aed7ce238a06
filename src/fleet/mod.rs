//! The fleet room.
