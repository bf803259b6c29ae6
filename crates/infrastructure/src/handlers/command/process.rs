//! A program in a process group of its own. What it starts is in the group, too, and ends with it: when the program has ended,
//! when its time is over, and when the item is cancelled.

use std::{
    io::{self, ErrorKind},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{
        Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process_group,
        prlimit, waitid,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    runtime::Handle,
    signal::unix::{self, SignalKind},
    time::timeout,
};

/// Bytes of standard output at most.
pub(super) const MAX_STDOUT_BYTES: usize = 1024 * 1024;
/// At least this many bytes of the end of standard error are kept: far more than is shown.
pub(super) const MAX_STDERR_BYTES: usize = 64 * 1024;
/// How long what the program has written is awaited after its end, where a process that has left the group keeps a pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What a program has written.
#[derive(Default)]
pub(super) struct Output {
    /// Standard output.
    pub(super) stdout: Vec<u8>,
    /// End of standard error.
    pub(super) stderr: Vec<u8>,
}

/// A running program. When dropped, the program is asked to end, and killed after `grace`, with all of its group.
pub(super) struct Running {
    /// `None`: it has ended.
    program: Option<Program>,
    grace: Duration,
}

struct Program {
    /// Stands before the child: the group is killed before the child can be reaped.
    group: Group,
    exit: Exit,
    child: Child,
}

/// The end of a program, which stays a zombie until its child is awaited: that keeps the id of the group from others.
struct Exit {
    id: Pid,
    /// Comes whenever a child of this process has ended.
    of_any_child: unix::Signal,
}

impl Exit {
    async fn awaited(&mut self) -> io::Result<()> {
        let looking = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(self.id), looking)?.is_none() {
            self.of_any_child.recv().await;
        }
        Ok(())
    }
}

/// A process group whose leader has not been reaped. It is killed when dropped.
struct Group(Pid);

impl Group {
    /// The group may have ended already.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(program) = self.program.take() else {
            return;
        };
        program.group.signal(Signal::TERM);
        // Without a runtime, and when the runtime ends first, the group is killed at once.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(program.end(self.grace));
        }
    }
}

impl Program {
    /// Waits for the end of the program for `grace`, and kills what is left of the group.
    async fn end(mut self, grace: Duration) -> io::Result<ExitStatus> {
        let _ = timeout(grace, self.exit.awaited()).await;
        drop(self.group);
        self.child.wait().await
    }
}

impl Running {
    /// Starts a program whose processes have so many bytes of memory each. The limit is set before the program gets any input.
    ///
    /// # Errors
    /// It cannot be started, or its memory cannot be limited.
    pub(super) fn start(mut command: Command, memory: u64, grace: Duration) -> io::Result<Self> {
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A parent may have had this process ignore SIGCHLD: without a handler, the system would then reap the program itself.
        let of_any_child = unix::signal(SignalKind::child())?;
        let child = command.spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id as i32));
        let id = id.ok_or_else(|| io::Error::other("it has no process id"))?;
        // From here on, an error kills it.
        let group = Group(id);
        limit(id, memory)?;
        let exit = Exit { id, of_any_child };
        Ok(Self {
            program: Some(Program { group, exit, child }),
            grace,
        })
    }

    /// Hands `input` to the program, and waits for its end and for what it writes until then.
    ///
    /// # Errors
    /// [`ErrorKind::FileTooLarge`]: it writes too much to its standard output. Others: the system fails.
    pub(super) async fn exchange(&mut self, input: &[u8], output: &mut Output) -> io::Result<()> {
        let Some(program) = &mut self.program else {
            return Ok(());
        };
        let child = &mut program.child;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let Output {
            stdout: result,
            stderr: messages,
        } = output;
        let pipes = async {
            tokio::try_join!(
                feed(stdin, input),
                keep(stdout, result),
                keep_end(stderr, messages)
            )
            .map(drop)
        };
        tokio::pin!(pipes);
        let all_is_read = tokio::select! {
            read = &mut pipes => {
                read?;
                true
            }
            ended = program.exit.awaited() => {
                ended?;
                false
            }
        };
        if all_is_read {
            program.exit.awaited().await?;
        }
        // Others of the group may hold the pipes open.
        program.group.signal(Signal::KILL);
        if !all_is_read && let Ok(read) = timeout(DRAIN_TIMEOUT, pipes).await {
            read?;
        }
        Ok(())
    }

    /// Ends the program, if it has not ended, with all of its group, and returns how it ended.
    ///
    /// # Errors
    /// The system fails.
    pub(super) async fn end(mut self) -> io::Result<ExitStatus> {
        let program = self.program.take();
        let program = program.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        program.group.signal(Signal::TERM);
        program.end(self.grace).await
    }
}

/// Limits the memory of a program, and of what it starts, and has it leave no core dump: one byte is too little for a file,
/// and with this limit Linux pipes none to a crash reporter. With a limit of zero it does.
fn limit(id: Pid, memory: u64) -> io::Result<()> {
    for (resource, most) in [(Resource::Data, memory), (Resource::Core, 1)] {
        // A limit of the agent itself is not raised.
        let most = getrlimit(resource)
            .maximum
            .map_or(most, |own| own.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        match prlimit(Some(id), resource, limit) {
            // It has ended already.
            Ok(_) | Err(Errno::SRCH) => {}
            Err(error) => {
                let problem = format!("its memory cannot be limited: {error}");
                return Err(io::Error::new(error.kind(), problem));
            }
        }
    }
    Ok(())
}

/// A program need not read its input.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    match stdin.write_all(input).await {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

async fn keep(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut from) = from else {
        return Ok(());
    };
    while from.read_buf(kept).await? > 0 {
        if kept.len() > MAX_STDOUT_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
    }
    Ok(())
}

async fn keep_end(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut from) = from else {
        return Ok(());
    };
    while from.read_buf(kept).await? > 0 {
        if kept.len() > 2 * MAX_STDERR_BYTES {
            kept.drain(..kept.len() - MAX_STDERR_BYTES);
        }
    }
    Ok(())
}
