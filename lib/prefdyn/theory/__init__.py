"""The papers' theorems as functions: bounds, conditions, identities; one module a chapter."""
