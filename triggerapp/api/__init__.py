"""HTTP: each view authenticates, calls one verb of the engine, and answers JSON."""
