//! The names under which the model sees the tools of servers. Pure.
//!
//! `SERVER_TOOL`, in the characters that upstreams take. The same servers, tools and taken names give the same names
//! again, so that a history stays true.

use std::collections::HashSet;

/// The longest name of a tool, in characters: what OpenAI's APIs take.
const NAME_MAX: usize = 64;

/// A name that is not among those taken, and is taken from now on.
pub(super) fn take(server: &str, tool: &str, taken: &mut HashSet<String>) -> String {
    let name = plain(server, tool);
    let mut chosen = name.clone();
    let mut number = 2;
    while !taken.insert(chosen.clone()) {
        let suffix = format!("_{number}");
        let kept = name.len().min(NAME_MAX - suffix.len());
        chosen = format!("{}{suffix}", &name[..kept]);
        number += 1;
    }
    chosen
}

/// Every other character becomes `_`; a name that is too long ends in a checksum of the whole.
fn plain(server: &str, tool: &str) -> String {
    let whole = format!("{server}_{tool}");
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = whole.chars().map(allowed).collect();
    if name.len() <= NAME_MAX {
        return name;
    }
    let checksum = format!("_{:08x}", crc32fast::hash(whole.as_bytes()));
    format!("{}{checksum}", &name[..NAME_MAX - checksum.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tools: &[(&str, &str)], taken: &[&str]) -> Vec<String> {
        let mut taken = taken.iter().map(|name| name.to_string()).collect();
        tools
            .iter()
            .map(|(server, tool)| take(server, tool, &mut taken))
            .collect()
    }

    #[test]
    fn a_name_is_that_of_the_server_and_of_its_tool() {
        assert_eq!(names(&[("files", "read_file")], &[]), ["files_read_file"]);
        assert_eq!(names(&[("my files", "läs/fil.1")], &[]), ["my_files_l_s_fil_1"]);
    }

    #[test]
    fn names_that_are_taken_get_a_number() {
        assert_eq!(names(&[("a", "b_c"), ("a_b", "c")], &[]), ["a_b_c", "a_b_c_2"]);
        assert_eq!(
            names(&[("a", "b")], &["a_b", "a_b_2"]),
            ["a_b_3"],
            "the client's tools keep theirs"
        );
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (one, two) = ("x".repeat(80), format!("{}y", "x".repeat(79)));
        let made = names(&[("a", &one), ("a", &two), ("a", &one)], &[]);
        assert!(made.iter().all(|name| name.len() <= NAME_MAX), "{made:?}");
        assert_eq!(made.iter().collect::<HashSet<_>>().len(), 3, "{made:?}");
        let whole = "x".repeat(NAME_MAX - 2);
        assert_eq!(names(&[("a", &whole)], &[&format!("a_{whole}")])[0].len(), NAME_MAX);
    }
}
