//! The list of areas and cases.

/// One test case.
pub struct Case {
    /// Its name, unique within the area.
    pub name: &'static str,
    /// What it does.
    pub run: fn(),
}

/// One file of cases.
pub struct Area {
    /// Its name.
    pub name: &'static str,
    /// Its cases, in order.
    pub cases: &'static [Case],
}

/// Registers the named functions of a file as its cases.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case of this area.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), run: $name }),*];
    };
}
pub(crate) use cases;

/// Registers modules as areas.
macro_rules! areas {
    ($($name:ident),* $(,)?) => {
        /// Every area.
        pub const AREAS: &[$crate::registry::Area] = &[
            $($crate::registry::Area { name: stringify!($name), cases: $name::CASES }),*
        ];
    };
}
pub(crate) use areas;
