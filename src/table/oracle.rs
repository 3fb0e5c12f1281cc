//! Tests of the whole table, among them against a naive walk over the configuration.
