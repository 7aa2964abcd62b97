//! A test for each crash point.

/// For each name a test that calls `$what` with the crash point.
#[allow(unused_macros, reason = "not every test program has such tests")]
macro_rules! killed_at {
    ($what:ident; $($name:ident: $point:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $what($point).await;
            }
        )*
    };
}

pub(crate) use killed_at;
