pub const EARLIER_MAX: usize = 8;
