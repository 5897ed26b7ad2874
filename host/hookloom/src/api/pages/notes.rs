//! Notes that a page shows once after a form. They are kept over the redirect, so that a reload of the page does not submit the
//! form again.
//!
//! # Guarantees
//! - A note belongs to the session that submitted the form, and is removed by the first page that shows it.
//! - Notes may contain secrets that are shown once. They are in memory only, for at most [`KEPT`], and bounded in number.
//!
//! # Limits
//! A restart loses notes, and so does a page that is never opened. The actions that they are about stay done.

use super::go_to;
use super::user::SignedIn;
use crate::access::new_credential;
use crate::clock;
use crate::url_path::UrlPath;
use axum::response::Response;
use lru::LruCache;
use parking_lot::Mutex;
use serde::Deserialize;
use std::any::Any;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// Lifetime of a note.
const KEPT: Duration = Duration::from_secs(600);

/// Maximum number of notes. The oldest are removed first.
const NOTES_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("more than 0");

/// Notes that have not been shown.
pub struct Notes(Mutex<LruCache<String, Note>>);

struct Note {
    /// Token of the note's session.
    csrf: String,
    until: Instant,
    content: Box<dyn Any + Send>,
}

/// Query parameter with the name of a note.
#[derive(Default, Deserialize)]
pub(super) struct NoteParams {
    note: Option<String>,
}

impl Default for Notes {
    fn default() -> Self {
        Notes(Mutex::new(LruCache::new(NOTES_MAX)))
    }
}

impl Notes {
    fn all(&self) -> parking_lot::MutexGuard<'_, LruCache<String, Note>> {
        self.0.lock()
    }

    /// Redirects to a page, which shows this content once.
    pub(super) fn go_to(&self, user: &SignedIn, path: &UrlPath, flash: &str, content: impl Any + Send) -> Response {
        let (name, ..) = new_credential("");
        let note = Note { csrf: user.session.csrf.clone(), until: clock::instant() + KEPT, content: Box::new(content) };
        self.all().put(name.clone(), note);
        go_to(&path.clone().query("note", name), flash)
    }

    /// Takes the content for a page, if it has this type.
    pub(super) fn take<T: Any>(&self, user: &SignedIn, params: &NoteParams) -> Option<T> {
        let name = params.note.as_ref()?;
        let mut all = self.all();
        let is_own =
            |note: &Note| note.csrf == user.session.csrf && note.until > clock::instant() && note.content.is::<T>();
        if !all.peek(name).is_some_and(is_own) {
            return None;
        }
        all.pop(name)?.content.downcast().ok().map(|content| *content)
    }
}
