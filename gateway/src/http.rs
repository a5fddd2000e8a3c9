//! The HTTP door: routes, errors in one shape, OpenAPI.
