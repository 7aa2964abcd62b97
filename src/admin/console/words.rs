//! All words of the page, in English and in Spanish. WhatsApp's own menus are called what the phone calls them. Pure.

use axum::http::{HeaderMap, header};

/// The words of one language.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// For `<html lang>`.
    pub lang: &'static str,
    pub title: &'static str,
    pub account: &'static str,
    pub login: Login,
    pub link: LinkWords,
    pub passkey: PasskeyWords,
    pub bus: BusWords,
    pub taken: TakenWords,
    pub wall: WallWords,
    /// For each state of the link: its name, and what to do. A prefix of the detail that follows in English, if there is one.
    states: &'static [(&'static str, &'static str, &'static str)],
    /// For each word that an action ends with.
    said: &'static [(&'static str, &'static str)],
}

/// Of the login.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub heading: &'static str,
    pub why: &'static str,
    pub token: &'static str,
    pub go: &'static str,
    pub leave: &'static str,
    pub wrong: &'static str,
    pub later: &'static str,
    pub read_only: &'static str,
    pub no_token: &'static str,
}

/// Of the link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkWords {
    pub heading: &'static str,
    pub no_edge: &'static str,
    pub starting: &'static str,
    pub by_qr: &'static str,
    pub by_code: &'static str,
    pub ways: &'static str,
    pub qr_alt: &'static str,
    pub no_qr: &'static str,
    pub good_for: &'static str,
    pub ends_in: &'static str,
    pub seconds: &'static str,
    pub steps_qr: [&'static str; 5],
    pub steps_code: [&'static str; 5],
    pub steps: &'static str,
    pub code_is: &'static str,
    pub phone: &'static str,
    pub phone_hint: &'static str,
    pub ask_code: &'static str,
    pub linked_as: &'static str,
    pub since: &'static str,
    pub online_since: &'static str,
    pub unlink: &'static str,
    pub unlink_why: &'static str,
    pub unlink_sure: &'static str,
    pub unlink_go: &'static str,
}

/// Of the passkey.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PasskeyWords {
    pub steps: [&'static str; 4],
    pub paste: &'static str,
    pub copy: &'static str,
    pub answer: &'static str,
    pub send: &'static str,
    pub answered: &'static str,
    pub code_is: &'static str,
    pub same: &'static str,
    pub give_up: &'static str,
    pub ends_in: &'static str,
}

/// Of what is on the bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BusWords {
    pub here: &'static str,
    pub waits: &'static str,
    pub wants: &'static str,
    pub well: &'static str,
    pub no_bus: &'static str,
    pub not_yet: &'static str,
    pub not_allowed: &'static str,
    pub for_forwarders: &'static str,
    pub for_edge: &'static str,
    pub not_taken: &'static str,
    pub in_hand: &'static str,
    pub oldest: &'static str,
    pub sending: &'static str,
    pub calling: &'static str,
    pub chain: &'static str,
    pub held: &'static str,
    pub retrying: &'static str,
    pub held_because: &'static str,
    pub letters: &'static str,
    pub no_letters: &'static str,
    pub letters_more: &'static str,
    pub replay: &'static str,
    pub replay_what: &'static str,
    pub drop: &'static str,
    pub drop_sure: &'static str,
    pub letter: &'static str,
    pub came: &'static str,
    pub chat: &'static str,
    pub kind: &'static str,
    pub reason: &'static str,
    pub act: &'static str,
    pub more: &'static str,
}

/// Of the chats that a person has taken over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TakenWords {
    pub heading: &'static str,
    pub none: &'static str,
    pub more: &'static str,
    pub since: &'static str,
    pub until: &'static str,
    pub resume: &'static str,
    pub take: &'static str,
    pub what: &'static str,
    pub how_long: &'static str,
    pub go: &'static str,
}

/// Of the accounts of a pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WallWords {
    pub heading: &'static str,
    pub what: &'static str,
    pub none: &'static str,
    pub more: &'static str,
    pub all: &'static str,
    pub state: &'static str,
    pub edge: &'static str,
    pub here: &'static str,
    pub waits: &'static str,
    pub paused: &'static str,
    pub parked: &'static str,
    pub free: &'static str,
    pub no_answer: &'static str,
    pub elsewhere: &'static str,
}

impl Words {
    /// The name of a state, and what to do.
    pub(super) fn state(&self, code: &str) -> (&'static str, &'static str) {
        let found = self.states.iter().find(|(known, _, _)| *known == code);
        found.map_or(("?", ""), |(_, name, what)| (name, what))
    }

    /// What an action has ended with; nothing for what is not in the table.
    pub(super) fn said(&self, code: &str) -> Option<&'static str> {
        self.said.iter().find(|(known, _)| *known == code).map(|(_, words)| *words)
    }

    /// The language that a browser asks for: the first it likes best of those there are, else English.
    pub(super) fn of(headers: &HeaderMap) -> &'static Self {
        let asked = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let mut best: (&'static Self, u32) = (&EN, 0);
        for one in asked.unwrap_or_default().split(',').take(16) {
            let mut parts = one.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
            // In thousandths, as that is what there may be.
            let weight = weight.parse::<f32>().map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1_000.0) as u32);
            let primary = tag.split('-').next().unwrap_or_default();
            let words = [&EN, &ES].into_iter().find(|words| primary.eq_ignore_ascii_case(words.lang));
            if let Some(words) = words.filter(|_| weight > best.1) {
                best = (words, weight);
            }
        }
        best.0
    }
}

pub(super) static EN: Words = Words {
    lang: "en",
    title: "WhatsApp connector",
    account: "Account",
    login: Login {
        heading: "Log in",
        why: "This page needs the token that is set as HTTP_TOKEN.",
        token: "Token",
        go: "Log in",
        leave: "Log out",
        wrong: "This is not the token.",
        later: "Too many wrong tokens. Wait a minute, then try again.",
        read_only: "You can look, and change nothing: log in to do so.",
        no_token: "You can look, and change nothing. Set HTTP_TOKEN, and log in with it, to link with a code, to unlink, and to see to dead letters.",
    },
    link: LinkWords {
        heading: "Link with WhatsApp",
        no_edge: "This process is a forwarder. The edge has the link: open the page of its process.",
        starting: "The process is starting.",
        by_qr: "QR code",
        by_code: "Code of 8 characters",
        ways: "Ways to link",
        qr_alt: "QR code for WhatsApp on the phone",
        no_qr: "There is no QR code at the moment. It comes by itself.",
        good_for: "A new code comes in",
        ends_in: "This code ends in",
        seconds: "seconds",
        steps: "On the phone",
        steps_qr: [
            "Open WhatsApp on the phone whose number is to be linked.",
            "Android: tap the three dots at the top right. iPhone: tap Settings at the bottom right.",
            "Tap Linked devices.",
            "Tap Link a device, and unlock the phone if it asks for it.",
            "Point the camera at this QR code.",
        ],
        steps_code: [
            "Open WhatsApp on the phone whose number is to be linked.",
            "Android: tap the three dots at the top right. iPhone: tap Settings at the bottom right.",
            "Tap Linked devices, and then Link a device.",
            "Tap Link with phone number instead.",
            "Type this code.",
        ],
        code_is: "The code",
        phone: "Phone number",
        phone_hint: "With the country code, for example +54 9 11 2345 6789.",
        ask_code: "Ask for a code",
        linked_as: "Linked as",
        since: "since",
        online_since: "online since",
        unlink: "Unlink…",
        unlink_why: "The connector then neither gets nor sends anything for this number until it is linked again. What waits to be sent goes on waiting. WhatsApp on the phone stays as it is.",
        unlink_sure: "Yes, unlink this number",
        unlink_go: "Unlink",
    },
    passkey: PasskeyWords {
        steps: [
            "Open https://web.whatsapp.com in another tab of a browser on a computer. Scan nothing there.",
            "Open the developer tools of that tab (F12, or ⌥⌘I on a Mac), and there the console.",
            "The browser asks for the passkey of this WhatsApp account. If it is on the phone, choose the phone, and scan what the browser shows.",
            "A box with a text appears. Copy all of the text, and paste it below.",
        ],
        paste: "Paste these lines into the console, and press Enter. If the browser does not let you paste, type what it asks for first.",
        copy: "Copy all of this:",
        answer: "The text from the browser",
        send: "Send",
        answered: "WhatsApp has the answer. A code appears here and on the phone in a moment.",
        code_is: "The phone shows a code. It has to be this one",
        same: "It is the same: link",
        give_up: "Begin anew",
        ends_in: "WhatsApp waits for another",
    },
    bus: BusWords {
        here: "This process",
        waits: "What waits",
        wants: "What needs a person",
        well: "All is well.",
        no_bus: "nats-server does not answer.",
        not_yet: "This is being looked up. Look again in a moment.",
        not_allowed: "The NATS user of this process may not see this. Use the commands `status` and `dlq`, or give this user the operator's permissions (docs/nats.md).",
        for_forwarders: "Messages for the assistant",
        for_edge: "Messages to send",
        not_taken: "not taken yet",
        in_hand: "in hand",
        oldest: "the oldest of",
        sending: "on the way to WhatsApp",
        calling: "with the assistant",
        chain: "waiting for the one before them",
        held: "held until the assistant is back",
        retrying: "waiting for their next attempt",
        held_because: "Held, because the assistant says or does:",
        letters: "Dead letters",
        no_letters: "None.",
        letters_more: "There are older ones: `whatsapp-connector dlq list` shows all.",
        replay: "Replay",
        replay_what: "Replay puts the message at the end of its chat. The assistant is asked again, and the person gets the answer.",
        drop: "Drop…",
        drop_sure: "Drop for good",
        letter: "Number",
        came: "Came",
        chat: "Chat",
        kind: "Kind",
        reason: "Reason",
        act: "To do",
        more: "There are more: `whatsapp-connector status` shows all.",
    },
    taken: TakenWords {
        heading: "Chats that a person has taken over",
        none: "None. The assistant answers everywhere.",
        more: "chats in all; the last to end are shown.",
        since: "Since",
        until: "Until",
        resume: "Resume",
        take: "Take over a chat",
        what: "The assistant is silent there until the time is over. Write the phone number with its country code.",
        how_long: "For how long",
        go: "Take over",
    },
    wall: WallWords {
        heading: "Accounts",
        what: "The accounts of this pool of edges. Those that this edge works for have a page each: to link, to unlink, and to take chats over.",
        none: "There is none yet: `whatsapp-connector accounts add NAME` adds one.",
        more: "There are more: `whatsapp-connector accounts list` shows all.",
        all: "All accounts",
        state: "State",
        edge: "Edge",
        here: "this one",
        waits: "Waiting to be sent",
        paused: "Paused",
        parked: "Parked: it does not start",
        free: "Free: no edge has it",
        no_answer: "Its edge does not answer",
        elsewhere: "This edge does not work for this account at the moment. The page of all accounts says which one does; `whatsapp-connector accounts link` works from anywhere.",
    },
    states: &[
        ("starting", "Starting", "Wait a moment."),
        ("unlinked", "Not linked", "The next code is on its way. Wait a moment."),
        ("qr-ready", "Not linked", "Link the number: scan the QR code, or type a code into the phone."),
        (
            "passkey-required",
            "WhatsApp asks for the passkey",
            "Show WhatsApp the passkey of this account, in a browser on its own page.",
        ),
        ("passkey-confirm", "Compare the codes", "Look at the phone: it has to show the code that is here."),
        (
            "standby",
            "Standing by",
            "Nothing to do: another edge has this number. This one takes over when that one ends.",
        ),
        (
            "connecting",
            "Connecting",
            "Nothing to do: the number is linked, and the connection is being made.",
        ),
        ("online", "Online", "Nothing to do: messages go both ways."),
        ("offline", "Offline", "Wait: the connection comes back by itself. No message is lost."),
        (
            "silent",
            "Silent",
            "Wait: nothing comes over the connection, so a new one is made. No message is lost.",
        ),
        (
            "replaced",
            "Replaced",
            "Another program uses this link. Stop it; this one tries again after 45 seconds.",
        ),
        (
            "banned",
            "Banned by WhatsApp",
            "Wait until the time is over. Nothing can make it shorter, and attempts make it longer.",
        ),
        (
            "locked",
            "Locked by WhatsApp",
            "Open WhatsApp on the phone, and do what it asks for. The number stays linked.",
        ),
        ("outdated", "Too old", "WhatsApp refuses this version. Upgrade the connector."),
        ("stopped", "Stopping", "The process is ending."),
    ],
    said: &[
        ("asked", "WhatsApp is being asked for a code. It will be here in a moment."),
        ("code", "WhatsApp has made a code. It is below."),
        ("unlinked", "The number is being unlinked. If the phone still lists this device, remove it there."),
        ("replayed", "The message is on its way to the assistant again."),
        ("dropped", "The dead letter is gone."),
        ("gone", "This dead letter was gone already."),
        ("not-replayable", "This message cannot be put back: `whatsapp-connector dlq replay` says why."),
        ("not-allowed", "The NATS user of this process may not do that."),
        ("no-bus", "nats-server does not answer. Nothing was changed."),
        ("unsure", "Tick the box first: nothing was changed."),
        ("no-session", "This process has no session with WhatsApp at the moment. Try again in a moment."),
        ("linked", "A number is linked already. Unlink it first."),
        (
            "not-online",
            "The number is not online, so WhatsApp would not hear of it. Try again when it is, or remove the device on the phone, under Linked devices.",
        ),
        (
            "not-a-number",
            "This is no phone number. Write it with its country code, for example +54 9 11 2345 6789.",
        ),
        ("too-soon", "Codes were asked for too often. Wait a while, or scan the QR code."),
        ("refused", "WhatsApp gives no code for this number. Look whether it is right, or scan the QR code."),
        ("passkey-sent", "WhatsApp has the answer of the passkey."),
        ("passkey-confirmed", "WhatsApp links the number now."),
        ("passkey-given-up", "It begins anew with the next QR code."),
        ("no-passkey", "WhatsApp asks for no passkey at the moment. Scan the QR code first."),
        (
            "not-an-answer",
            "This is not what the browser has printed. Copy all of it, from the first brace to the last.",
        ),
        (
            "passkey-refused",
            "WhatsApp does not accept this answer. Run the lines in the browser once more, or begin anew.",
        ),
        ("taken", "The assistant is silent in this chat now."),
        ("resumed", "The assistant answers in this chat again."),
        ("not-taken", "No person had this chat any more."),
        ("not-a-time", "This is no time, or it is longer than TAKEOVER_MAX."),
        ("no-takeover", "This process takes over no chats: set TAKEOVER for its edge."),
        ("stale", "The page was too old, and nothing was changed. Try again."),
    ],
};

pub(super) static ES: Words = Words {
    lang: "es",
    title: "Conector de WhatsApp",
    account: "Cuenta",
    login: Login {
        heading: "Iniciar sesión",
        why: "Esta página pide la clave configurada como HTTP_TOKEN.",
        token: "Clave",
        go: "Entrar",
        leave: "Salir",
        wrong: "Esa no es la clave.",
        later: "Demasiadas claves incorrectas. Espera un minuto y prueba otra vez.",
        read_only: "Puedes mirar, pero no cambiar nada: inicia sesión para hacerlo.",
        no_token: "Puedes mirar, pero no cambiar nada. Configura HTTP_TOKEN e inicia sesión con esa clave para vincular con un código, desvincular y atender los mensajes abandonados.",
    },
    link: LinkWords {
        heading: "Vincular con WhatsApp",
        no_edge: "Este proceso es un forwarder. El vínculo lo tiene el edge: abre la página de ese proceso.",
        starting: "El proceso está arrancando.",
        by_qr: "Código QR",
        by_code: "Código de 8 caracteres",
        ways: "Formas de vincular",
        qr_alt: "Código QR para WhatsApp en el teléfono",
        no_qr: "Ahora no hay código QR. Llega solo.",
        good_for: "Un código nuevo llega en",
        ends_in: "Este código termina en",
        seconds: "segundos",
        steps: "En el teléfono",
        steps_qr: [
            "Abre WhatsApp en el teléfono cuyo número quieres vincular.",
            "Android: toca los tres puntos arriba a la derecha. iPhone: toca Configuración abajo a la derecha.",
            "Toca Dispositivos vinculados.",
            "Toca Vincular un dispositivo y desbloquea el teléfono si lo pide.",
            "Apunta la cámara a este código QR.",
        ],
        steps_code: [
            "Abre WhatsApp en el teléfono cuyo número quieres vincular.",
            "Android: toca los tres puntos arriba a la derecha. iPhone: toca Configuración abajo a la derecha.",
            "Toca Dispositivos vinculados y después Vincular un dispositivo.",
            "Toca Vincular con el número de teléfono.",
            "Escribe este código.",
        ],
        code_is: "El código",
        phone: "Número de teléfono",
        phone_hint: "Con el código de país, por ejemplo +54 9 11 2345 6789.",
        ask_code: "Pedir un código",
        linked_as: "Vinculado como",
        since: "desde",
        online_since: "en línea desde",
        unlink: "Desvincular…",
        unlink_why: "El conector no recibe ni envía nada por este número hasta que se vuelva a vincular. Lo que espera para enviarse sigue esperando. WhatsApp en el teléfono queda como está.",
        unlink_sure: "Sí, desvincular este número",
        unlink_go: "Desvincular",
    },
    passkey: PasskeyWords {
        steps: [
            "Abre https://web.whatsapp.com en otra pestaña de un navegador, en una computadora. No escanees nada ahí.",
            "Abre las herramientas de desarrollo de esa pestaña (F12, o ⌥⌘I en un Mac), y ahí la consola.",
            "El navegador pide la llave de acceso de esta cuenta de WhatsApp. Si está en el teléfono, elige el teléfono y escanea lo que muestra el navegador.",
            "Aparece un cuadro con un texto. Copia todo el texto y pégalo abajo.",
        ],
        paste: "Pega estas líneas en la consola y pulsa Enter. Si el navegador no deja pegar, escribe antes lo que pide.",
        copy: "Copia todo esto:",
        answer: "El texto del navegador",
        send: "Enviar",
        answered: "WhatsApp tiene la respuesta. En un momento aparece un código aquí y en el teléfono.",
        code_is: "El teléfono muestra un código. Tiene que ser este",
        same: "Es el mismo: vincular",
        give_up: "Empezar de nuevo",
        ends_in: "WhatsApp espera otros",
    },
    bus: BusWords {
        here: "Este proceso",
        waits: "Lo que espera",
        wants: "Lo que necesita a una persona",
        well: "Todo está bien.",
        no_bus: "nats-server no responde.",
        not_yet: "Se está consultando. Mira otra vez en un momento.",
        not_allowed: "El usuario de NATS de este proceso no puede ver esto. Usa los comandos `status` y `dlq`, o dale los permisos del operador (docs/nats.md).",
        for_forwarders: "Mensajes para el asistente",
        for_edge: "Mensajes por enviar",
        not_taken: "sin tomar",
        in_hand: "en curso",
        oldest: "el más viejo es de",
        sending: "en camino a WhatsApp",
        calling: "con el asistente",
        chain: "esperan al anterior",
        held: "retenidos hasta que vuelva el asistente",
        retrying: "esperan su próximo intento",
        held_because: "Retenido, porque el asistente dice o hace:",
        letters: "Mensajes abandonados",
        no_letters: "Ninguno.",
        letters_more: "Hay más viejos: `whatsapp-connector dlq list` los muestra todos.",
        replay: "Repetir",
        replay_what: "Repetir pone el mensaje al final de su chat. Se pregunta otra vez al asistente y la persona recibe la respuesta.",
        drop: "Descartar…",
        drop_sure: "Descartar para siempre",
        letter: "Número",
        came: "Llegó",
        chat: "Chat",
        kind: "Tipo",
        reason: "Motivo",
        act: "Qué hacer",
        more: "Hay más: `whatsapp-connector status` los muestra todos.",
    },
    taken: TakenWords {
        heading: "Chats que atiende una persona",
        none: "Ninguno. El asistente responde en todos.",
        more: "chats en total; se muestran los últimos en terminar.",
        since: "Desde",
        until: "Hasta",
        resume: "Devolver",
        take: "Atender un chat",
        what: "El asistente calla ahí hasta que termine el plazo. Escribe el número de teléfono con el código de país.",
        how_long: "Por cuánto tiempo",
        go: "Atender",
    },
    wall: WallWords {
        heading: "Cuentas",
        what: "Las cuentas de este grupo de edges. Las que atiende este edge tienen cada una su página: para vincular, desvincular y atender chats.",
        none: "Todavía no hay ninguna: `whatsapp-connector accounts add NOMBRE` agrega una.",
        more: "Hay más: `whatsapp-connector accounts list` las muestra todas.",
        all: "Todas las cuentas",
        state: "Estado",
        edge: "Edge",
        here: "este",
        waits: "Por enviar",
        paused: "En pausa",
        parked: "Apartada: no arranca",
        free: "Libre: ningún edge la tiene",
        no_answer: "Su edge no responde",
        elsewhere: "Este edge no atiende esta cuenta ahora. La página de todas las cuentas dice cuál la atiende; `whatsapp-connector accounts link` funciona desde cualquier lugar.",
    },
    states: &[
        ("starting", "Arrancando", "Espera un momento."),
        ("unlinked", "Sin vincular", "El próximo código está en camino. Espera un momento."),
        (
            "qr-ready",
            "Sin vincular",
            "Vincula el número: escanea el código QR o escribe un código en el teléfono.",
        ),
        (
            "passkey-required",
            "WhatsApp pide la llave de acceso",
            "Muéstrale a WhatsApp la llave de acceso de esta cuenta, en un navegador y en su propia página.",
        ),
        ("passkey-confirm", "Compara los códigos", "Mira el teléfono: tiene que mostrar el código de aquí."),
        (
            "standby",
            "En reserva",
            "No hay nada que hacer: otro edge tiene este número. Este sigue cuando aquel termine.",
        ),
        ("connecting", "Conectando", "No hay nada que hacer: el número está vinculado y se está conectando."),
        ("online", "En línea", "No hay nada que hacer: los mensajes van y vienen."),
        ("offline", "Sin conexión", "Espera: la conexión vuelve sola. No se pierde ningún mensaje."),
        (
            "silent",
            "En silencio",
            "Espera: por la conexión no llega nada, así que se hace otra. No se pierde ningún mensaje.",
        ),
        (
            "replaced",
            "Reemplazado",
            "Otro programa usa este vínculo. Detenlo; este prueba otra vez a los 45 segundos.",
        ),
        (
            "banned",
            "Bloqueado por WhatsApp",
            "Espera hasta que termine el plazo. Nada lo acorta, y los intentos lo alargan.",
        ),
        (
            "locked",
            "Cerrado por WhatsApp",
            "Abre WhatsApp en el teléfono y haz lo que pide. El número sigue vinculado.",
        ),
        ("outdated", "Versión vieja", "WhatsApp rechaza esta versión. Actualiza el conector."),
        ("stopped", "Terminando", "El proceso está terminando."),
    ],
    said: &[
        ("asked", "Se le está pidiendo un código a WhatsApp. Aparecerá aquí en un momento."),
        ("code", "WhatsApp hizo un código. Está abajo."),
        (
            "unlinked",
            "El número se está desvinculando. Si el teléfono todavía muestra este dispositivo, quítalo ahí.",
        ),
        ("replayed", "El mensaje va otra vez al asistente."),
        ("dropped", "El mensaje abandonado ya no está."),
        ("gone", "Ese mensaje abandonado ya no estaba."),
        ("not-replayable", "Este mensaje no se puede repetir: `whatsapp-connector dlq replay` dice por qué."),
        ("not-allowed", "El usuario de NATS de este proceso no puede hacer eso."),
        ("no-bus", "nats-server no responde. No se cambió nada."),
        ("unsure", "Primero marca la casilla: no se cambió nada."),
        ("no-session", "Este proceso no tiene ahora una sesión con WhatsApp. Prueba otra vez en un momento."),
        ("linked", "Ya hay un número vinculado. Desvincúlalo primero."),
        (
            "not-online",
            "El número no está en línea, y WhatsApp no se enteraría. Prueba cuando lo esté, o quita el dispositivo en el teléfono, en Dispositivos vinculados.",
        ),
        (
            "not-a-number",
            "Eso no es un número de teléfono. Escríbelo con el código de país, por ejemplo +54 9 11 2345 6789.",
        ),
        ("too-soon", "Se pidieron códigos demasiado seguido. Espera un rato o escanea el código QR."),
        ("refused", "WhatsApp no da un código para este número. Mira si es correcto o escanea el código QR."),
        ("passkey-sent", "WhatsApp tiene la respuesta de la llave de acceso."),
        ("passkey-confirmed", "WhatsApp está vinculando el número."),
        ("passkey-given-up", "Se empieza de nuevo con el próximo código QR."),
        ("no-passkey", "WhatsApp no pide ahora una llave de acceso. Escanea antes el código QR."),
        (
            "not-an-answer",
            "Eso no es lo que mostró el navegador. Copia todo, desde la primera llave hasta la última.",
        ),
        (
            "passkey-refused",
            "WhatsApp no acepta esa respuesta. Ejecuta las líneas otra vez en el navegador o empieza de nuevo.",
        ),
        ("taken", "El asistente ya no responde en ese chat."),
        ("resumed", "El asistente responde otra vez en ese chat."),
        ("not-taken", "Ninguna persona tenía ya ese chat."),
        ("not-a-time", "Eso no es un plazo, o pasa de TAKEOVER_MAX."),
        ("no-takeover", "Este proceso no atiende chats: configura TAKEOVER en su edge."),
        ("stale", "La página era vieja y no se cambió nada. Prueba otra vez."),
    ],
};

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::edge::link::CODES;

    #[test]
    fn a_browser_gets_the_language_that_it_likes_best() {
        let of = |asked: &str| {
            let value = HeaderValue::from_str(asked).unwrap();
            Words::of(&HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, value)])).lang
        };
        let rows = [
            ("", "en"),
            ("es", "es"),
            ("es-AR,es;q=0.9,en;q=0.8", "es"),
            ("en-US,en;q=0.9,es;q=0.8", "en"),
            ("de, es;q=0.5, en;q=0.4", "es"),
            ("fr;q=0.9, pt", "en"),
            ("ES-419", "es"),
            ("es;q=0", "en"),
            ("es;q=nonsense,en;q=0.1", "en"),
            (";;;,,q=1", "en"),
        ];
        for (asked, want) in rows {
            assert_eq!(of(asked), want, "{asked}");
        }
        assert_eq!(Words::of(&HeaderMap::new()).lang, "en");
    }

    #[test]
    fn every_state_and_every_word_of_an_action_is_in_both_languages() {
        for words in [&EN, &ES] {
            let known: Vec<_> = words.states.iter().map(|(code, _, _)| *code).collect();
            assert_eq!(known, CODES, "{}", words.lang);
        }
        let said = |words: &Words| words.said.iter().map(|(code, _)| *code).collect::<Vec<_>>();
        assert_eq!(said(&EN), said(&ES));
    }
}
