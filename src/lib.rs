//! sweep-operator.
