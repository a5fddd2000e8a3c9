//! `tapgate top`: the live page in a terminal. It reads the same stream of a running server, with an operator's key, and
//! knows nothing else. The terminal is put back however it ends: by `q`, by a signal, by a panic.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use feed::{News, Server};
use screen::Screen;
use watch::Watch;

pub mod feed;
pub mod screen;
pub mod watch;

/// How often the thread that reads keys looks whether it is still wanted.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// What is printed by `--once` where no terminal says how wide it is.
const ONCE_SIZE: (u16, u16) = (140, 46);
/// How long `--once` waits for a picture.
const ONCE_WITHIN: Duration = Duration::from_secs(15);

/// `tapgate top`
#[derive(Debug, Args)]
pub struct Top {
    /// The server's HTTP address, or that of a live page as the server prints it (`http://…/live/demo#key=…`).
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub at: String,
    /// An operator's key. Without it, the one in the URL or in TAPGATE_KEY is used; others on this machine cannot see the latter.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The slug of the festival to begin with. Without it: the one in the URL, or the first that is open.
    #[arg(long, value_name = "SLUG")]
    pub festival: Option<String>,
    /// Print one snapshot as plain text, and exit.
    #[arg(long)]
    pub once: bool,
}

impl Top {
    /// Shows it until somebody has seen enough. What `--once` prints comes back.
    ///
    /// # Errors
    /// The address or the key is no good, or the terminal is none.
    pub fn run(self) -> anyhow::Result<Option<String>> {
        let environment = std::env::var("TAPGATE_KEY").ok();
        let given = TopArgs::of(&self.at)?;
        let key = self.key.or(given.key).or(environment);
        let key =
            key.context("a key is needed: give --key, TAPGATE_KEY in the environment, or the page's whole address")?;
        let server = Arc::new(Server::new(&given.authority, key.trim())?);
        let slug = self.festival.or(given.slug);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.once {
            true => runtime.block_on(once(server, slug)).map(Some),
            false if !io::stdout().is_terminal() => {
                bail!("the output is not a terminal; --once prints a single snapshot")
            }
            false => {
                // From here on a panic puts the terminal back before it says what happened.
                let mut terminal = ratatui::try_init().context("the terminal")?;
                let ended = runtime.block_on(watch(&mut terminal, server, slug));
                ratatui::try_restore().context("the terminal")?;
                ended.map(|()| None)
            }
        }
    }
}

/// What the address says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopArgs {
    pub(super) authority: String,
    slug: Option<String>,
    key: Option<String>,
}

impl TopArgs {
    pub(super) fn of(at: &str) -> anyhow::Result<Self> {
        if at.starts_with("https://") {
            bail!(
                "https is not supported here: give the server's own HTTP address, through a tunnel if it is far away"
            );
        }
        let rest = at.strip_prefix("http://").unwrap_or(at);
        let (address, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (authority, path) = address.split_once('/').unwrap_or((address, ""));
        if authority.is_empty() || authority.contains(char::is_whitespace) {
            bail!("`{at}` is not the address of a server; http://127.0.0.1:8080 is one");
        }
        let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if port { authority.to_owned() } else { format!("{authority}:80") };
        let slug = path.strip_prefix("live/").map(|slug| slug.trim_end_matches('/')).filter(|slug| !slug.is_empty());
        let key = fragment.split('&').find_map(|part| part.strip_prefix("key="));
        Ok(Self { authority, slug: slug.map(str::to_owned), key: key.map(str::to_owned) })
    }
}

/// One picture, as plain text.
async fn once(server: Arc<Server>, slug: Option<String>) -> anyhow::Result<String> {
    let slugs = slugs(&server, slug).await?;
    let Some(slug) = slugs.first() else { bail!("this key sees no festival") };
    let (news, mut coming) = mpsc::channel(4);
    let feed = tokio::spawn(feed::follow(server, slug.clone(), news));
    let mut watch = Watch::of(slug);
    let shown = async {
        while let Some(news) = coming.recv().await {
            if let News::No(sentence) = &news {
                bail!("{sentence}");
            }
            watch.take(news);
            // A server that nobody has watched yet has a picture, and no second to tell a rate from.
            if watch.has_points() {
                return Ok(());
            }
        }
        bail!("the server has ended the stream")
    };
    let shown = tokio::time::timeout(ONCE_WITHIN, shown).await.context("the server has sent no figures")?;
    feed.abort();
    shown?;
    let (width, height) = match io::stdout().is_terminal() {
        true => ratatui::crossterm::terminal::size().unwrap_or(ONCE_SIZE),
        false => ONCE_SIZE,
    };
    Ok(Screen { watch: &watch, which: (1, slugs.len()), keys: false }.text(width, height.max(ONCE_SIZE.1)))
}

/// The festivals to go through, the first of them to begin with.
async fn slugs(server: &Server, first: Option<String>) -> anyhow::Result<Vec<String>> {
    let mut slugs = match (server.festivals().await, &first) {
        (Ok(slugs), _) => slugs,
        // Not every key may list them; one that was named can be watched all the same.
        (Err(feed::FeedError::No(_)), Some(_)) => Vec::new(),
        (Err(why), _) => return Err(why.into()),
    };
    if let Some(first) = first {
        slugs.retain(|slug| *slug != first);
        slugs.insert(0, first);
    }
    Ok(slugs)
}

async fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    server: Arc<Server>,
    slug: Option<String>,
) -> anyhow::Result<()> {
    let slugs = slugs(&server, slug).await?;
    if slugs.is_empty() {
        bail!("this key sees no festival");
    }
    let mut keys = Keys::read();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut which = 0;
    let begin = |which: usize| -> (Watch, mpsc::Receiver<News>, JoinHandle<()>) {
        let slug: &String = &slugs[which];
        let (news, coming) = mpsc::channel(4);
        (Watch::of(slug), coming, tokio::spawn(feed::follow(Arc::clone(&server), slug.clone(), news)))
    };
    let (mut watch, mut coming, mut feed) = begin(which);
    loop {
        let screen = Screen { watch: &watch, which: (which + 1, slugs.len()), keys: true };
        terminal.draw(|frame| frame.render_widget(&screen, frame.area()))?;
        let wish = tokio::select! {
            Some(news) = coming.recv() => { watch.take(news); Wish::Nothing }
            event = keys.coming.recv() => event.map_or(Wish::End, |event| wish(&event)),
            _ = interrupt.recv() => Wish::End,
            _ = terminate.recv() => Wish::End,
            _ = hang_up.recv() => Wish::End,
        };
        let step = match wish {
            Wish::Nothing => continue,
            Wish::End => break,
            Wish::Next => 1,
            Wish::Previous => slugs.len() - 1,
        };
        feed.abort();
        which = (which + step) % slugs.len();
        (watch, coming, feed) = begin(which);
    }
    feed.abort();
    Ok(())
}

/// What somebody at the keyboard wants. A new size needs no more than being drawn again.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    End,
    Next,
    Previous,
}

fn wish(event: &Event) -> Wish {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return Wish::Nothing };
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Wish::End,
        // A terminal in raw mode makes a key of it, not a signal.
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Wish::End,
        KeyCode::Tab => Wish::Next,
        KeyCode::BackTab => Wish::Previous,
        _ => Wish::Nothing,
    }
}

/// The keyboard, read on a thread of its own, which ends with this.
struct Keys {
    coming: mpsc::Receiver<Event>,
    wanted: Arc<AtomicBool>,
}

impl Keys {
    fn read() -> Self {
        let (typed, coming) = mpsc::channel(16);
        let wanted = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&wanted);
        std::thread::spawn(move || {
            while still.load(Ordering::Relaxed) {
                let event = match event::poll(KEYS_EVERY) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(why) => Err(why),
                };
                // Without a keyboard nobody could end it: dropping the sender does.
                let Ok(event) = event else { break };
                if typed.blocking_send(event).is_err() {
                    break;
                }
            }
        });
        Self { coming, wanted }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_the_pages() {
        let given = |authority: &str, slug: Option<&str>, key: Option<&str>| TopArgs {
            authority: authority.into(),
            slug: slug.map(Into::into),
            key: key.map(Into::into),
        };
        for (at, expected) in [
            ("http://127.0.0.1:8080", given("127.0.0.1:8080", None, None)),
            ("127.0.0.1:8080/", given("127.0.0.1:8080", None, None)),
            ("gates.local", given("gates.local:80", None, None)),
            ("http://[::1]:8080/live/demo", given("[::1]:8080", Some("demo"), None)),
            ("http://h:1/live/demo#key=tgk_x", given("h:1", Some("demo"), Some("tgk_x"))),
            ("http://h:1/#key=tgk_x", given("h:1", None, Some("tgk_x"))),
        ] {
            assert_eq!(TopArgs::of(at).unwrap(), expected, "{at}");
        }
        for at in ["https://h/", "http:///live/demo", ""] {
            assert!(TopArgs::of(at).is_err(), "{at}");
        }
    }

    #[test]
    fn keys_end_it_or_go_on_to_the_next_festival() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        for (event, expected) in [
            (key(KeyCode::Char('q'), none), Wish::End),
            (key(KeyCode::Esc, none), Wish::End),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::End),
            (key(KeyCode::Char('c'), none), Wish::Nothing),
            (key(KeyCode::Tab, none), Wish::Next),
            (key(KeyCode::BackTab, KeyModifiers::SHIFT), Wish::Previous),
            (Event::Resize(80, 24), Wish::Nothing),
        ] {
            assert_eq!(wish(&event), expected, "{event:?}");
        }
    }
}
