//! Names that the service which this one replaces has for two settings. Pure.
//!
//! Platforms set `PORT` too. So nothing here ends a start: what cannot be used is a remark.

use std::collections::BTreeMap;

use super::Variable;

/// What has become of such a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The name that was set.
    pub name: &'static str,
    /// The setting's own name.
    pub setting: &'static str,
    /// Why its value does not count; `None` if it does.
    pub unused: Option<&'static str>,
}

/// One name: the setting, and its value in the setting's form.
struct Name {
    name: &'static str,
    setting: &'static str,
    value: fn(&str) -> Option<String>,
    takes: &'static str,
}

const NAMES: [Name; 2] = [
    Name { name: "PORT", setting: "HTTP_ADDR", value: everywhere, takes: "it takes a port from 1 to 65535" },
    Name {
        name: "AI_ASSISTANTS_API_KEY",
        setting: "API_KEY",
        value: |key| Some(key.to_owned()),
        takes: "it takes a key",
    },
];

/// That service listens on all addresses of the machine.
fn everywhere(port: &str) -> Option<String> {
    let port: u16 = port.trim().parse().ok().filter(|port| *port > 0)?;
    Some(format!("0.0.0.0:{port}"))
}

/// Gives the settings that have no value of their own the one of their earlier name.
pub(super) fn understand(variables: &mut BTreeMap<String, Variable>) -> Vec<Earlier> {
    let mut found = Vec::new();
    for Name { name, setting, value, takes } in NAMES {
        let Some(variable) = variables.get(name).cloned() else { continue };
        let is_set = variables.contains_key(setting) || variables.contains_key(&format!("{setting}_FILE"));
        let unused = match value(&variable.value) {
            _ if is_set => Some("the setting itself is set"),
            None => Some(takes),
            Some(value) => {
                variables.insert(setting.to_owned(), Variable { value, ..variable });
                None
            }
        };
        found.push(Earlier { name, setting, unused });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Origin};

    fn understood(variables: &[(&str, &str)], name: &str) -> (Option<String>, Vec<Option<&'static str>>) {
        let own = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::of([], own);
        let value = environment.get(name).map(|variable| {
            assert_eq!(variable.origin, Origin::Environment);
            variable.value.clone()
        });
        (value, environment.earlier().iter().map(|earlier| earlier.unused).collect())
    }

    #[test]
    fn earlier_names_count_where_the_setting_has_no_value() {
        let addr = |text: &str| Some(text.to_owned());
        for (variables, want) in [
            (&[("PORT", "60007")][..], (addr("0.0.0.0:60007"), vec![None])),
            (&[("PORT", " 60007 ")], (addr("0.0.0.0:60007"), vec![None])),
            (
                &[("PORT", "1"), ("HTTP_ADDR", "127.0.0.1:2")],
                (addr("127.0.0.1:2"), vec![Some("the setting itself is set")]),
            ),
            (&[("PORT", "tcp://10.0.0.7:80")], (None, vec![Some("it takes a port from 1 to 65535")])),
            (&[("PORT", "0")], (None, vec![Some("it takes a port from 1 to 65535")])),
            (&[("PORT", " ")], (None, vec![])),
            (&[], (None, vec![])),
        ] {
            assert_eq!(understood(variables, "HTTP_ADDR"), want, "{variables:?}");
        }
        assert_eq!(understood(&[("AI_ASSISTANTS_API_KEY", "k")], "API_KEY"), (addr("k"), vec![None]));
        let both = [("AI_ASSISTANTS_API_KEY", "k"), ("API_KEY", "own")];
        assert_eq!(understood(&both, "API_KEY").0, addr("own"));
        // Its own name counts also as a file.
        let file = [("AI_ASSISTANTS_API_KEY", "k"), ("API_KEY_FILE", "/nowhere")];
        assert_eq!(understood(&file, "API_KEY").0, None);
    }
}
