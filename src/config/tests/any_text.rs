//! No text makes the compiler panic, and its faults are always within the text.

use proptest::prelude::*;

use super::{SMALLEST, compiled};

/// Lines, words and characters that a file may be put together from, right or wrong.
fn pieces() -> impl Strategy<Value = String> {
    let shipped = include_str!("../../../config/reference.toml").replace("# ", "");
    let lines: Vec<String> =
        shipped.lines().chain(SMALLEST.lines()).map(|line| format!("{line}\n")).collect();
    let tokens = [
        "[", "]", "[[", "]]", "{", "}", "=", ",", "\"", "'", "\n", ".", "pool", "web", "3", "\\",
        "\"\"\"", "ä",
    ];
    prop_oneof![
        4 => proptest::sample::select(lines),
        2 => proptest::sample::select(tokens.map(str::to_owned).to_vec()),
        1 => ".{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = compiled(&text);
    }

    #[test]
    fn no_mixture_makes_it_panic(parts in proptest::collection::vec(pieces(), 0..40)) {
        let text = parts.concat();
        if let Err(faults) = compiled(&text) {
            prop_assert!(!faults.0.is_empty());
            prop_assert!(faults.0.is_sorted());
            for fault in &faults.0 {
                prop_assert!((1..=text.lines().count() + 1).contains(&fault.line), "{}", fault);
                prop_assert!(!fault.to_string().contains('\n'), "{}", fault);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused_or_right(cut in 0usize..6_000, len in 0usize..30, with in ".{0,3}") {
        let text = include_str!("../../../config/tidegate.toml");
        let at = |n: usize| (n.min(text.len())..=text.len()).find(|n| text.is_char_boundary(*n));
        let (start, end) = (at(cut).expect("the end is one"), at(cut + len).expect("the end is one"));
        let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
        let _ = compiled(&damaged);
    }
}
