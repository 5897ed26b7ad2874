//! Notes that a page shows once after a form: handed over a redirect, so that a reload sends nothing again.
//!
//! # Guarantees
//! - A note is for the session that sent the form, and is taken by the first page that asks for it.
//! - Notes may hold secrets that are shown once: they are in memory only, for at most [`KEPT`], and bounded in number.
//!
//! A restart, or a page that is never looked at, loses them; whatever they tell of was done all the same.

use super::go_to;
use super::user::SignedIn;
use crate::access::new_credential;
use crate::url_path::UrlPath;
use axum::response::Response;
use lru::LruCache;
use serde::Deserialize;
use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lifetime of a note that waits for its page.
const KEPT: Duration = Duration::from_secs(600);

/// Maximum number of notes that wait; the oldest go first.
const NOTES_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("more than 0");

/// Notes that wait for their pages.
pub struct Notes(Mutex<LruCache<String, Note>>);

struct Note {
    /// The token of the session that it is for.
    csrf: String,
    until: Instant,
    content: Box<dyn Any + Send>,
}

/// The name of a note in a page's address.
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
    fn all(&self) -> std::sync::MutexGuard<'_, LruCache<String, Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to a page, which shows this once.
    pub(super) fn go_to(&self, user: &SignedIn, path: &UrlPath, flash: &str, content: impl Any + Send) -> Response {
        let (name, ..) = new_credential("");
        let note = Note { csrf: user.session.csrf.clone(), until: Instant::now() + KEPT, content: Box::new(content) };
        self.all().put(name.clone(), note);
        go_to(&path.clone().query("note", name), flash)
    }

    /// Takes what a page is to show, if it is of this kind.
    pub(super) fn take<T: Any>(&self, user: &SignedIn, params: &NoteParams) -> Option<T> {
        let name = params.note.as_ref()?;
        let mut all = self.all();
        let is_own =
            |note: &Note| note.csrf == user.session.csrf && note.until > Instant::now() && note.content.is::<T>();
        if !all.peek(name).is_some_and(is_own) {
            return None;
        }
        all.pop(name)?.content.downcast().ok().map(|content| *content)
    }
}
