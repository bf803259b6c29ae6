//! Rendering in processes of their own, because nothing within a process can end a template that compares or joins lists
//! which hold each other: a process has a limit on its memory, and can be killed.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    time::Duration,
};

use punctual_application::ports::HandlerError;
use rustix::process::{Resource, Rlimit, getppid, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{Environments, MAX_TEXT_BYTES, Source, Sources, Values, rendered};

/// The first argument of a program that is to [render](serve) and do nothing else.
pub const RENDERER: &str = "render-templates";

/// How long one rendering may take. What a template may do by steps is over in a fraction of it.
const RENDER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a process may take until it is ready.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Memory of one process, in bytes.
const MEMORY: u64 = 256 * 1024 * 1024;
/// Of an answer: a text of which every byte is escaped.
const MAX_ANSWER_BYTES: u64 = 6 * MAX_TEXT_BYTES as u64 + 1024;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// From now on, renders in processes of `program`, which calls [`serve`] when its first argument is [`RENDERER`].
pub fn render_in(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// What is asked of a process, one JSON line each. The first line holds the templates.
#[derive(Serialize, Deserialize)]
struct Request {
    source: Source,
    item: Value,
    overrides: Value,
}

/// Renders what standard input asks for, until it ends.
///
/// # Errors
/// When the process cannot limit itself, or does not understand what it is asked.
pub fn serve() -> io::Result<()> {
    let limit = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Data, limit(MEMORY))?;
    setrlimit(Resource::Core, limit(0))?;
    let watched = end_with_parent();
    let mut lines = io::stdin().lock().lines();
    let mut output = io::stdout().lock();
    let Some(sources) = lines.next() else {
        return Ok(());
    };
    let environments = Environments::new(Arc::new(serde_json::from_str(&sources?)?));
    writeln!(output, "ready")?;
    for line in lines {
        let line = line?;
        let request: Request = serde_json::from_str(&line)?;
        let _ = watched.send(true);
        let values = Values {
            item: request.item,
            overrides: request.overrides,
        };
        let answer = rendered(&environments, &request.source, &values);
        let _ = watched.send(false);
        serde_json::to_writer(&mut output, &answer)?;
        writeln!(output)?;
    }
    Ok(())
}

/// Ends the process when its parent has ended and a rendering has not: it would never look at its input again.
fn end_with_parent() -> mpsc::SyncSender<bool> {
    let (sender, renders) = mpsc::sync_channel(2);
    let parent = getppid();
    std::thread::spawn(move || {
        while renders.recv().is_ok_and(|renders| renders) {
            while renders.recv_timeout(Duration::from_secs(1))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                if getppid() != parent {
                    std::process::exit(1);
                }
            }
        }
    });
    sender
}

/// The processes that render the templates of one folder.
pub(super) struct Renderers {
    program: PathBuf,
    /// The first line of every process.
    sources: String,
    idle: Mutex<Vec<Renderer>>,
    places: Semaphore,
    /// Processes that wait for work at most.
    processors: usize,
    /// Templates that have taken too long or too much: they share one place, and leave the others to the rest.
    heavy: Mutex<HashSet<String>>,
    heavy_place: Semaphore,
}

/// A rendering that counts as too heavy unless it is over.
struct RenderGuard<'r> {
    renderers: &'r Renderers,
    template: &'r str,
    is_over: bool,
}

impl Drop for RenderGuard<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.renderers.heavy).insert(self.template.to_owned());
        }
    }
}

/// One process. It is killed when dropped.
struct Renderer {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Drop for Renderer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // It has been killed, so this takes no time; without it a zombie would stay.
        let _ = self.child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Renderers {
    /// None where no program has been named.
    pub(super) fn of(sources: &Sources) -> Option<Self> {
        let processors = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .max(2);
        Some(Self {
            program: PROGRAM.get()?.clone(),
            sources: serde_json::to_string(sources).ok()?,
            idle: Mutex::default(),
            // Twice as many as can run: some are held by templates that are about to be ended.
            places: Semaphore::new(2 * processors),
            processors,
            heavy: Mutex::default(),
            heavy_place: Semaphore::new(1),
        })
    }

    pub(super) async fn render(
        &self,
        source: &Source,
        values: Values,
    ) -> Result<String, HandlerError> {
        let template = &*source.name;
        let is_heavy = lock(&self.heavy).contains(template);
        let _heavy_place = if is_heavy {
            self.heavy_place.acquire().await.ok()
        } else {
            None
        };
        let _place = self.places.acquire().await.ok();
        let request = Request {
            source: source.clone(),
            item: values.item,
            overrides: values.overrides,
        };
        let request = serde_json::to_string(&request).map_err(|error| {
            HandlerError::permanent(format!("the item cannot be written as JSON: {error}"))
        })?;
        let idle = lock(&self.idle).pop();
        let mut renderer = match idle {
            Some(renderer) => renderer,
            None => self.start().await?,
        };
        // Also when the item ends first, and this with it.
        let mut unfinished = RenderGuard {
            renderers: self,
            template,
            is_over: false,
        };
        match timeout(RENDER_TIMEOUT, renderer.ask(request)).await {
            Ok(Ok(answer)) => {
                unfinished.is_over = true;
                let mut idle = lock(&self.idle);
                if idle.len() < self.processors {
                    idle.push(renderer);
                }
                drop(idle);
                if is_heavy {
                    lock(&self.heavy).remove(template);
                }
                answer.map_err(HandlerError::permanent)
            }
            Ok(Err(_)) if renderer.was_stopped() => {
                unfinished.is_over = true;
                Err(HandlerError::retryable(format!(
                    "template `{template}`: its process was killed"
                )))
            }
            Ok(Err(_)) => {
                let limit = MEMORY / 1024 / 1024;
                Err(HandlerError::permanent(format!(
                    "template `{template}` needs more than {limit} MiB of memory, or nests too deep"
                )))
            }
            Err(_) => Err(HandlerError::permanent(format!(
                "template `{template}` takes longer than {} s",
                RENDER_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn start(&self) -> Result<Renderer, HandlerError> {
        let fail = |problem: String| {
            HandlerError::retryable(format!(
                "failed to start a process for templates: {problem}"
            ))
        };
        let mut renderer =
            Renderer::start(&self.program).map_err(|error| fail(error.to_string()))?;
        let ready = timeout(STARTUP_TIMEOUT, renderer.line(self.sources.clone())).await;
        match ready {
            Ok(Ok(ready)) if ready.trim_end() == "ready" => Ok(renderer),
            Ok(Ok(other)) => Err(fail(format!("unexpected answer {other:?}"))),
            Ok(Err(error)) => Err(fail(error.to_string())),
            Err(_) => Err(fail("no answer in time".to_owned())),
        }
    }
}

impl Renderer {
    fn start(program: &PathBuf) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg(RENDERER)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Ctrl-C is for the agent, which brings to its end what it has begun.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            output: child.stdout.take().map(BufReader::new),
            child,
        })
    }

    async fn ask(&mut self, request: String) -> io::Result<Result<String, String>> {
        let line = self.line(request).await?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Writes a line and reads one. When this is dropped in between, the process is of no further use.
    async fn line(&mut self, mut line: String) -> io::Result<String> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut input = self.input.take().ok_or_else(gone)?;
        let mut output = self.output.take().ok_or_else(gone)?;
        line.push('\n');
        let talk = spawn_blocking(move || {
            input.write_all(line.as_bytes())?;
            let mut answer = String::new();
            output
                .by_ref()
                .take(MAX_ANSWER_BYTES)
                .read_line(&mut answer)?;
            if answer.ends_with('\n') {
                Ok((input, output, answer))
            } else {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof))
            }
        });
        let (input, output, answer) = talk.await.map_err(io::Error::other)??;
        (self.input, self.output) = (Some(input), Some(output));
        Ok(answer)
    }

    /// Whether somebody else ended the process, such as a service manager that stops everything at once.
    fn was_stopped(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let ended = self.child.wait();
        ended.is_ok_and(|status| matches!(status.signal(), Some(1 | 2 | 15)))
    }
}

/// The sources of all templates in a folder, by their names within it. What is not text is left out.
pub(super) fn read_all(folder: &std::path::Path) -> Sources {
    let mut sources = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let (path, name) = (entry.path(), format!("{prefix}{name}"));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((path, format!("{name}/")));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                sources.insert(name, text);
            }
        }
    }
    sources
}
