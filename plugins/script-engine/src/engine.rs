//! QuickJS's runtime: prepared once, loaded with a script, called with events.

use crate::answer::{self, Answer};
use crate::bindings::hookloom::plugin::types;
use crate::bindings::hookloom::script::host::{self, Phase, ScriptError};
use crate::frames::{self, SCRIPT};
use crate::globals;
use rquickjs::context::EvalOptions;
use rquickjs::module::Declared;
use rquickjs::{
    Array, CatchResultExt as _, CaughtError, Context, Ctx, Function, Module, Object, Persistent, Runtime, Value,
};
use std::cell::RefCell;

/// Stack of a script, in bytes as `quickjs_stack.h` counts them: functions call each other about 450 levels deep. Measured: every
/// recursion ends here before it has used the 512 KiB that the host gives a plugin.
const STACK_BYTES: usize = 560 << 10;

/// Memory that a call needs beside the script's: the engine's own, what the allocator cannot use, and the report of an error.
const RESERVED_BYTES: u64 = 3 << 20;

/// Memory that the report of an error may use, in bytes.
const REPORT_BYTES: usize = 1 << 20;

/// Allocated bytes at which QuickJS first looks for cycles. A call that ends before is spared the visit of every object.
const GC_BYTES: usize = 8 << 20;

/// Heap that exists from the start, in bytes: memory that does not grow during a call.
const HEAP_BYTES: usize = 1 << 20;

struct Engine {
    context: Context,
    prelude: Persistent<Object<'static>>,
    /// Function `transform` of the script. None: not loaded yet.
    transform: Option<Persistent<Function<'static>>>,
    /// Memory that the script may use, in bytes.
    memory_max: usize,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

/// Makes the runtime and the globals.
pub(crate) fn prepare() {
    let engine = Engine::new().unwrap_or_else(|error| panic!("the engine could not be prepared: {error}"));
    drop(std::hint::black_box(Vec::<u8>::with_capacity(HEAP_BYTES)));
    ENGINE.set(Some(engine));
}

/// Judges an event with the script.
pub(crate) fn judge(event: types::Event) -> Result<types::Verdict, types::Failure> {
    let mut engine = ENGINE.take().expect("the component was prepared when it was built");
    globals::begin_log();
    let answer = engine.judge(event);
    globals::end_log();
    ENGINE.set(Some(engine));
    match answer {
        Ok(answer) => answer,
        Err(error) => {
            host::fail(&error);
            unreachable!("the host ends the call")
        }
    }
}

/// Thrown value that has not been read yet.
type Thrown = Persistent<Value<'static>>;

impl Engine {
    fn new() -> rquickjs::Result<Self> {
        let runtime = Runtime::new()?;
        runtime.set_max_stack_size(STACK_BYTES);
        runtime.set_gc_threshold(GC_BYTES);
        let context = Context::full(&runtime)?;
        let prelude = context.with(|ctx| -> rquickjs::Result<_> {
            let mut options = EvalOptions::default();
            options.filename = Some("prelude.js".to_owned());
            let prelude: Function<'_> = ctx.eval_with_options(include_str!("prelude.js"), options)?;
            let prelude: Object<'_> = prelude.call((globals::native(&ctx)?,))?;
            Ok(Persistent::save(&ctx, prelude))
        })?;
        runtime.run_gc();
        Ok(Engine { context, prelude, transform: None, memory_max: usize::MAX })
    }

    fn judge(&mut self, event: types::Event) -> Result<Result<types::Verdict, types::Failure>, ScriptError> {
        let begun = self.context.with(|ctx| self.begin(&ctx).map_err(|error| thrown(&ctx, error)));
        if let Err(thrown) = begun {
            return self.explain(Phase::Load, thrown);
        }
        if self.transform.is_none() {
            self.load()?;
        }
        let outcome = self.context.with(|ctx| self.call(&ctx, event).map_err(|error| thrown(&ctx, error)));
        match outcome {
            Ok(Answer::Judged(answer)) => Ok(answer),
            Ok(Answer::Wrong(message)) => {
                Err(ScriptError { phase: Phase::Answer, message, position: None, frames: Vec::new() })
            }
            Ok(Answer::Error(message, stack)) => Err(script_error(Phase::Call, message, &stack)),
            Err(thrown) => self.explain(Phase::Call, thrown),
        }
    }

    /// Loads the script, and finds its function.
    fn load(&mut self) -> Result<(), ScriptError> {
        let host::Script { source, memory_bytes } = host::load();
        self.memory_max = usize::try_from(memory_bytes.saturating_sub(RESERVED_BYTES).max(1)).unwrap_or(usize::MAX);
        self.context.runtime().set_memory_limit(self.memory_max);
        let loaded = self.context.with(|ctx| {
            let module = Module::declare(ctx.clone(), SCRIPT, source);
            let module = module.map_err(|error| (Phase::Parse, thrown(&ctx, error)))?;
            let transform = evaluated(module).map_err(|error| (Phase::Load, thrown(&ctx, error)))?;
            Ok(transform.into_function().map(|function| Persistent::save(&ctx, function)))
        });
        match loaded {
            Ok(Some(transform)) => {
                self.transform = Some(transform);
                Ok(())
            }
            Ok(None) => Err(ScriptError {
                phase: Phase::Load,
                message: "there is no function to call: the script must have `export function transform(event) { … }`"
                    .to_owned(),
                position: None,
                frames: Vec::new(),
            }),
            Err((phase, thrown)) => self.explain(phase, thrown).map(drop),
        }
    }

    /// Forgets the numbers of an earlier call.
    fn begin(&self, ctx: &Ctx<'_>) -> rquickjs::Result<()> {
        self.prelude.clone().restore(ctx)?.get::<_, Function<'_>>("begin")?.call(())
    }

    fn call(&self, ctx: &Ctx<'_>, event: types::Event) -> rquickjs::Result<Answer> {
        let prelude = self.prelude.clone().restore(ctx)?;
        let transform = self.transform.clone().expect("loaded before").restore(ctx)?;
        let event: Value<'_> = prelude.get::<_, Function<'_>>("event")?.call((globals::fields(ctx, event)?,))?;
        let mut value: Value<'_> = transform.call((event,))?;
        if let Some(promise) = value.as_promise() {
            value = promise.finish()?;
        }
        answer::read(&prelude.get::<_, Function<'_>>("read")?.call::<_, Array<'_>>((value,))?)
    }

    /// Reads a thrown value. Some scripts throw their answer.
    fn explain(&self, phase: Phase, thrown: Thrown) -> Result<Result<types::Verdict, types::Failure>, ScriptError> {
        let runtime = self.context.runtime();
        let used = usize::try_from(runtime.memory_usage().malloc_size).unwrap_or(0);
        // Also after the memory limit there must be room to say so.
        runtime.set_memory_limit(used + REPORT_BYTES);
        let answer = self.context.with(|ctx| {
            let explain = || {
                let prelude = self.prelude.clone().restore(&ctx)?;
                let thrown = thrown.restore(&ctx)?;
                answer::read(&prelude.get::<_, Function<'_>>("explain")?.call::<_, Array<'_>>((thrown,))?)
            };
            explain().catch(&ctx).map_err(|error| match error {
                CaughtError::Error(error) => error.to_string(),
                other => other.to_string(),
            })
        });
        runtime.set_memory_limit(self.memory_max);
        match answer {
            Ok(Answer::Judged(answer)) => Ok(answer),
            Ok(Answer::Wrong(message)) => Err(script_error(phase, message, "")),
            Ok(Answer::Error(message, stack)) => Err(script_error(phase, self.with_memory(message), &stack)),
            Err(message) => Err(script_error(phase, message, "")),
        }
    }

    /// Adds the limit to a message about memory. Without memory, QuickJS throws null where it cannot make an error.
    fn with_memory(&self, message: String) -> String {
        // The script's objects are gone when it has failed, but the memory has not shrunk.
        let memory = core::arch::wasm32::memory_size(0) * WASM_PAGE_BYTES;
        let is_full = memory >= self.memory_max / 10 * 8;
        if message == OUT_OF_MEMORY || (is_full && message == THROWN_NULL) {
            return format!("out of memory: limits.memory_bytes leaves the script {} MiB", self.memory_max >> 20);
        }
        message
    }
}

/// Size of a page of WebAssembly's memory, in bytes.
const WASM_PAGE_BYTES: usize = 64 << 10;

/// Message of QuickJS for an allocation that failed.
const OUT_OF_MEMORY: &str = "InternalError: out of memory";

/// Message of `prelude.js` for `null` as an error.
const THROWN_NULL: &str = "the script threw null: null";

/// Runs the code of a module. Returns its export `transform`, or undefined.
fn evaluated<'js>(module: Module<'js, Declared>) -> rquickjs::Result<Value<'js>> {
    let (module, promise) = module.eval()?;
    promise.finish::<()>()?;
    module.namespace()?.get("transform")
}

/// Keeps a thrown value beyond the access to the context. Errors of rquickjs become errors of the script.
fn thrown(ctx: &Ctx<'_>, error: rquickjs::Error) -> Thrown {
    let value = match error {
        rquickjs::Error::Exception => ctx.catch(),
        rquickjs::Error::WouldBlock => {
            message(ctx, "the script awaits a promise that nothing settles: there are no timers and no network")
        }
        error => message(ctx, &error.to_string()),
    };
    Persistent::save(ctx, value)
}

fn message<'js>(ctx: &Ctx<'js>, text: &str) -> Value<'js> {
    match rquickjs::Exception::from_message(ctx.clone(), text) {
        Ok(exception) => exception.into_object().into_value(),
        Err(_) => Value::new_undefined(ctx.clone()),
    }
}

fn script_error(phase: Phase, message: String, stack: &str) -> ScriptError {
    let frames::Frames { position, frames } = frames::read(stack);
    ScriptError { phase, message, position, frames }
}
