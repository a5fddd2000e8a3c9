//! How a layout is written down: once, for the bytes and for PROTOCOL.md.

/// Structs whose fields lie in memory as they lie in a frame. The sentence above a field is its row in PROTOCOL.md.
macro_rules! layouts {
    ($($(#[$doc:meta])* $vis:vis $name:ident { $($(#[doc = $says:literal])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
            zerocopy::Immutable,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        $vis struct $name { $($(#[doc = $says])* pub(super) $field: $type,)* }

        #[cfg(test)]
        impl $name {
            /// As PROTOCOL.md has them.
            pub(crate) const FIELDS: &'static [crate::macros::Field] = &[$(crate::macros::Field {
                name: stringify!($field),
                of: stringify!($type),
                at: core::mem::offset_of!($name, $field),
                len: size_of::<$type>(),
                says: concat!($($says),*),
            },)*];
        }
    )*};
}

/// Where a field lies in its layout, and what is in it.
#[cfg(test)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) of: &'static str,
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) says: &'static str,
}
