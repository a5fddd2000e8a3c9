pub const RECENT_MAX: usize = 32;
