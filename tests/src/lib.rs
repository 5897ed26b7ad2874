//! Empty library. The package has the end-to-end tests in `e2e/`, the misbehaving plugins in `guests/`, and `fixtures/`.
