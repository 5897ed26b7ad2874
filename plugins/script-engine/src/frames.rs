//! Stack of a script's error, as QuickJS writes it, reduced to the script's own functions.

/// Name of the script in stacks. Frames with another one are the engine's.
pub(crate) const SCRIPT: &str = "script.js";

/// Maximum number of frames of an error.
const FRAMES_MAX: usize = 16;

/// Position of an error and the functions around it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    /// Line and column of the innermost frame, both from 1.
    pub(crate) position: Option<(u32, u32)>,
    /// The functions, innermost first: `transform (7:12)`.
    pub(crate) frames: Vec<String>,
}

/// Reads a stack: lines such as `    at transform (script.js:7:12)`, or without a function for code outside of functions.
pub(crate) fn read(stack: &str) -> Frames {
    let mut frames = Frames::default();
    for line in stack.lines() {
        let Some((function, position)) = frame(line) else { continue };
        frames.position.get_or_insert(position);
        if frames.frames.len() < FRAMES_MAX {
            frames.frames.push(format!("{function} ({}:{})", position.0, position.1));
        }
    }
    frames
}

fn frame(line: &str) -> Option<(&str, (u32, u32))> {
    let line = line.trim().strip_prefix("at ")?;
    let (function, place) = match line.rsplit_once(" (") {
        Some((function, place)) => (function, place.strip_suffix(')')?),
        None => ("script", line),
    };
    let (line, column) = place.strip_prefix(SCRIPT)?.strip_prefix(':')?.split_once(':')?;
    let function = if function == "<eval>" { "script" } else { function };
    Some((function, (line.parse().ok()?, column.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stack: &str, position: Option<(u32, u32)>, frames: &[&str]) {
        let expected = Frames { position, frames: frames.iter().map(|&frame| frame.to_owned()).collect() };
        assert_eq!(read(stack), expected, "{stack}");
    }

    #[test]
    fn only_the_scripts_frames_are_kept() {
        check(
            "    at replace (prelude.js:9:1)\n    at map (native)\n    at inner (script.js:3:14)\n    at transform (script.js:7:2)\n",
            Some((3, 14)),
            &["inner (3:14)", "transform (7:2)"],
        );
        check("    at script.js:2:5\n", Some((2, 5)), &["script (2:5)"]);
        check("    at <anonymous> (script.js:2:5)\n", Some((2, 5)), &["<anonymous> (2:5)"]);
        check("", None, &[]);
        check("nonsense\n    at x (script.js)\n at y (script.js:1)\n at z (script.js:a:b)", None, &[]);
    }
}
