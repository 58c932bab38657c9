"""What tests of one subject share, a module each."""
