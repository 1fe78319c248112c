//! Values that the server cannot put together, though their chunks may all be
//! there: they are found without the TOAST relation's index, and put together
//! here.
//!
//! The pointer to a value is taken from the bytes of its page, and where its
//! chunks are from a scan of the TOAST relation's heap. A value counts when each
//! of its chunks is there, their lengths agree with the pointer, and it can be
//! written as the server would. Of one that is not whole, the chunks that are
//! there are kept beside the dump.
//!
//! For that the role must be able to read files of the server and the TOAST
//! relation; else nothing is put together, and the server's words are all.

mod by_index;
mod scan;
mod together;
mod weigh;
mod window;

use super::Cause;
use super::Reading;
use super::columns::{Field, NotRead, not_read};
use super::findings::LostColumn;
use crate::heap::Ctid;
use crate::page::{self, Found, Page, ToastPointer, Varlena};
use crate::server::fault::{Fault, Phase, Words, is_missing_file};
use crate::server::inventory::{self, Relation};
use crate::server::pages::page_image;
use crate::server::session::ReadError;
use crate::server::toast::toast_relation;
use scan::{Interrupted, ToastRelation, find_chunks};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use together::{chunks_of, is_too_long, of_chunks, put_together};
use tokio::sync::Mutex;
use window::Window;

/// A TOAST relation is scanned so often at most.
const SCANS_MAX: u32 = 64;

/// `pg_column_toast_chunk_id` is there since this version.
pub(super) const TELLS_OF_TOAST: u32 = 170_000;

/// When so many values in a row were put together which the server could not
/// give, it is not asked for the next.
const TRUSTED_AFTER: u32 = 3;

/// What is needed to put values of a relation together.
pub struct Doctor {
    /// The OID of the TOAST relation; none: there is none.
    toast: Option<u32>,
    attributes: Vec<page::Attribute>,
    /// Of each column of the rows: its place among the attributes, and its type.
    columns: Vec<(usize, u32)>,
    state: Mutex<State>,
    has_helped: AtomicBool,
}

#[derive(Default)]
struct State {
    toast: Option<ToastRelation>,
    /// Reads of the TOAST relation itself can be planned.
    plans: bool,
    /// Whether the index would be used for one value; none: nobody asked.
    by_index: Option<bool>,
    window: Option<Window>,
    scans: u32,
    /// The last page that was looked at.
    page: Option<(u32, Vec<u8>)>,
    /// The TOAST relation's file is gone: what the server says of that.
    gone: Option<Words>,
    /// Nothing can be put together, for want of rights, say.
    impossible: bool,
    /// Values put together since the last that were not.
    in_a_row: u32,
}

/// What became of a value.
pub(super) enum Value {
    Whole(Field),
    /// What is known of it, and its chunks that are there, as rows.
    Broken {
        message: String,
        chunks: Vec<Vec<u8>>,
    },
    /// Nothing is known.
    Unknown,
}

impl Doctor {
    pub fn new(relation: &Relation) -> Self {
        let place = |c: &inventory::Column| relation.place_of(c.attnum);
        let columns: Option<Vec<_>> = relation.columns.iter().map(place).collect();
        // Where the catalog makes no sense, no tuple can be walked through.
        let known = relation.layout().zip(columns);
        let toast = relation.toast.filter(|_| known.is_some());
        let (attributes, columns) = known.unwrap_or_default();
        Self {
            toast,
            attributes,
            columns,
            state: Mutex::default(),
            has_helped: AtomicBool::new(false),
        }
    }

    /// Why the relation is not clean, where nothing of it may be lost.
    pub fn reason(&self) -> Option<&'static str> {
        self.has_helped.load(Relaxed).then_some(
            "values that the server could not read were put together from their TOAST chunks: the \
             TOAST index is damaged",
        )
    }

    /// What was learnt of other data says nothing of what is read now.
    pub async fn forget(&self) {
        *self.state.lock().await = State::default();
    }

    /// The columns whose values may be stored elsewhere.
    pub(super) fn toastable(&self) -> impl Iterator<Item = usize> {
        let is_varlena = |&(place, _): &(usize, u32)| {
            self.toast.is_some() && self.attributes.get(place).is_some_and(|a| a.len == -1)
        };
        (0..).zip(&self.columns).filter(move |(_, c)| is_varlena(c)).map(|(column, _)| column)
    }

    /// Whether the server need not be asked first.
    pub(super) async fn is_trusted(&self) -> bool {
        self.state.lock().await.in_a_row >= TRUSTED_AFTER
    }

    /// What the server says of every value, if the TOAST relation's file is gone.
    /// `said`: what it has said of one.
    pub(super) async fn gone(
        &self,
        at: &Reading<'_>,
        said: Option<&Words>,
    ) -> Result<Option<Words>, Interrupted> {
        let mut state = self.state.lock().await;
        let (Some(oid), Some(words)) = (self.toast, said) else { return Ok(state.gone.clone()) };
        if state.gone.is_none() && is_missing_file(words) {
            // Of a file that is not there the server says that it is empty.
            let size = format!("SELECT pg_catalog.pg_relation_size({oid}, 'main')");
            let size = at.session.value(&size).await.map_err(|e| (e, Phase::Rows))?;
            state.gone = (size.as_deref() == Some("0")).then(|| words.clone());
        }
        Ok(state.gone.clone())
    }

    /// Why nothing can be planned for the TOAST relation itself, if that is so:
    /// the planner looks at the first page of its index, unless the session was
    /// begun with ignore_system_indexes.
    pub(super) async fn why_not_planned(&self, at: &Reading<'_>) -> Option<Words> {
        let mut state = self.state.lock().await;
        let oid = self.toast.filter(|_| !state.plans)?;
        let probed = async {
            state.know_toast(at, oid).await?;
            let Some(toast) = &state.toast else { return Ok(()) };
            at.session.probe(&toast.readable.probe()).await
        };
        let Err(error) = probed.await else {
            state.plans = true;
            return None;
        };
        let words = error.words().clone();
        // Without its file there is nothing to be read, whatever the way.
        let damage =
            matches!(error.fault(Phase::Start, None), Fault::Damage(_)) && !is_missing_file(&words);
        // Whatever else it is, the next read will meet it again.
        (at.session.undo_reading().await.is_ok() && damage).then_some(words)
    }

    /// What a column of a tuple that the server could not read comes to.
    pub(super) async fn instead_of(
        &self,
        at: &Reading<'_>,
        ctid: Ctid,
        lost: LostColumn,
    ) -> Result<Result<Field, LostColumn>, Interrupted> {
        if lost.cause != Cause::StoredElsewhere || self.gone(at, Some(&lost.words)).await?.is_some()
        {
            return Ok(Err(lost));
        }
        Ok(self.value(at, ctid, lost.column).await?.instead_of(lost))
    }

    /// Puts a value together.
    pub(super) async fn value(
        &self,
        at: &Reading<'_>,
        ctid: Ctid,
        column: usize,
    ) -> Result<Value, Interrupted> {
        let mut state = self.state.lock().await;
        let value = match self.try_value(at, &mut state, ctid, column).await {
            Ok(value) => value,
            Err(error) => match not_read(at, error.0, error.1).await {
                NotRead::Interrupted(error, phase) => return Err((error, phase)),
                NotRead::Damage { words, .. } => {
                    let table = &at.readable.qualified;
                    tracing::info!("{table}: values are not put together: {}", words.one_line());
                    state.impossible = true;
                    Value::Unknown
                }
            },
        };
        let whole = matches!(value, Value::Whole(_));
        state.in_a_row = if whole { state.in_a_row + 1 } else { 0 };
        self.has_helped.fetch_or(whole, Relaxed);
        Ok(value)
    }

    async fn try_value(
        &self,
        at: &Reading<'_>,
        state: &mut State,
        ctid: Ctid,
        column: usize,
    ) -> Result<Value, Interrupted> {
        let (Some(oid), Some(&(place, type_oid))) = (self.toast, self.columns.get(column)) else {
            return Ok(Value::Unknown);
        };
        if state.impossible {
            return Ok(Value::Unknown);
        }
        let first = |e: ReadError| (e, Phase::Rows);
        state.know_toast(at, oid).await.map_err(first)?;
        let found = self.found(at, state, ctid, place).await.map_err(first)?;
        let Some((xmin, pointer)) = found.and_then(|(xmin, found)| Some((xmin, pointer(found)?)))
        else {
            return Ok(Value::Unknown);
        };
        // The page in memory may be another one than that in the file, with
        // another row at this place.
        let tells = at.session.server().version >= TELLS_OF_TOAST;
        let sql = at.readable.stored_as(ctid, column, tells);
        let in_memory = at.session.row(&sql).await.map_err(first)?;
        let in_memory = in_memory.into_iter().map(|field| field?.parse().ok());
        let of_file = [xmin, pointer.stored_size, pointer.value_id].map(Some);
        let is_same = in_memory.eq(of_file.into_iter().take(if tells { 3 } else { 2 }));
        if pointer.toast_relid != oid || !is_same {
            return Ok(Value::Unknown);
        }
        self.of_pointer(at, state, &pointer, (ctid, column, type_oid)).await
    }

    /// Puts the value together that a tuple points to which the server does not see.
    pub(super) async fn of_page(
        &self,
        at: &Reading<'_>,
        pointer: &ToastPointer,
        of: (Ctid, usize, u32),
    ) -> Result<Value, Interrupted> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let Some(oid) = self.toast.filter(|oid| *oid == pointer.toast_relid) else {
            return Ok(Value::Unknown);
        };
        let value = async {
            state.know_toast(at, oid).await.map_err(|e| (e, Phase::Rows))?;
            let is_astray = at.pages.layout.as_ref().is_some_and(|l| l.is_astray(pointer.value_id));
            let value = match is_astray {
                true => None,
                false => state.by_index(at, pointer, of).await?,
            };
            match value {
                Some(value) => Ok(value),
                None => self.of_pointer(at, state, pointer, of).await,
            }
        };
        match value.await {
            Ok(value) => Ok(value),
            Err(error) => match not_read(at, error.0, error.1).await {
                NotRead::Interrupted(error, phase) => Err((error, phase)),
                NotRead::Damage { .. } => Ok(Value::Unknown),
            },
        }
    }

    async fn of_pointer(
        &self,
        at: &Reading<'_>,
        state: &mut State,
        pointer: &ToastPointer,
        of: (Ctid, usize, u32),
    ) -> Result<Value, Interrupted> {
        let Some(toast) = &state.toast else { return Ok(Value::Unknown) };
        if !state.window.as_ref().is_some_and(|w| w.covers(pointer.value_id)) {
            if state.scans == SCANS_MAX {
                return Ok(Value::Unknown);
            }
            state.scans += 1;
            let mut window = Window::new(pointer.value_id);
            if state.scans == 1 {
                // Most TOAST relations fit as a whole.
                window = Window::new(0);
            }
            find_chunks(at, toast, |value, seq, place| window.add(value, seq, place)).await?;
            window.finish();
            state.window = Some(window);
            if !state.window.as_ref().is_some_and(|w| w.covers(pointer.value_id)) {
                return Box::pin(self.of_pointer(at, state, pointer, of)).await;
            }
        }
        let places = state.window.as_ref().and_then(|w| w.chunks(pointer.value_id));
        put_together(at, toast, pointer, places, of).await
    }

    /// A value, from the bytes of its page, and the xmin of its tuple.
    async fn found<'a>(
        &self,
        at: &Reading<'_>,
        state: &'a mut State,
        ctid: Ctid,
        place: usize,
    ) -> Result<Option<(u32, Found<'a>)>, ReadError> {
        if state.page.as_ref().is_none_or(|(block, _)| *block != ctid.block) {
            let image = page_image(at.session, at.path, ctid.block).await?;
            state.page = image.map(|bytes| (ctid.block, bytes));
        }
        let tuple = state.page.as_ref().and_then(|(_, bytes)| Page::new(bytes).tuple(ctid.offset));
        Ok(tuple.and_then(|t| Some((t.xmin(), *t.attributes(&self.attributes).get(place)?))))
    }
}

/// The pointer that a value is.
fn pointer(found: Found<'_>) -> Option<ToastPointer> {
    match found {
        Found::Bytes(bytes) => match Varlena::parse(bytes)? {
            Varlena::External(pointer) => Some(pointer),
            _ => None,
        },
        _ => None,
    }
}

impl State {
    /// A value by its index, if all of its chunks are had so.
    async fn by_index(
        &mut self,
        at: &Reading<'_>,
        pointer: &ToastPointer,
        of: (Ctid, usize, u32),
    ) -> Result<Option<Value>, Interrupted> {
        let Some(toast) = self.toast.as_ref().filter(|_| !is_too_long(pointer)) else {
            return Ok(None);
        };
        let is_planned = match self.by_index {
            Some(known) => known,
            None => by_index::is_planned(at, toast).await?,
        };
        self.by_index = Some(is_planned);
        if !is_planned {
            return Ok(None);
        }
        let chunks = by_index::chunks(at, toast, pointer.value_id).await?.unwrap_or_default();
        let numbers = chunks.iter().map(|(seq, _)| *seq);
        let is_whole = numbers.eq(0..chunks_of(toast, pointer));
        Ok(is_whole.then(|| of_chunks(at, toast, pointer, &chunks, of)))
    }

    /// Asks for the TOAST relation once.
    async fn know_toast(&mut self, at: &Reading<'_>, oid: u32) -> Result<(), ReadError> {
        if self.toast.is_none() {
            let (readable, path, blocks) = toast_relation(at.session, oid, at.readable).await?;
            self.toast = Some(ToastRelation { readable, path, blocks });
        }
        Ok(())
    }
}

impl Value {
    /// What a column that the server could not read comes to: its field, or the
    /// loss, with what is known of it.
    pub(super) fn instead_of(self, mut lost: LostColumn) -> Result<Field, LostColumn> {
        match self {
            Self::Whole(field) => return Ok(field),
            Self::Broken { message, chunks } => {
                let said = std::mem::take(&mut lost.words.message);
                lost.words.message = format!("{said} ({message})");
                lost.chunks = chunks;
            }
            Self::Unknown => {}
        }
        Err(lost)
    }
}
