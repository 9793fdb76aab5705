//! The sliver of Lua that probes use: literals, arithmetic, concatenation, tables,
//! locals, KEYS and ARGV, `redis.call`. Not an engine: no loops, no functions, bounded
//! in depth and steps by the size of the script. A global it does not know is reported
//! as the server's sandbox reports it; a construct it does not know gives nothing.

use std::collections::BTreeMap;

/// Longest script looked into.
const SCRIPT_MAX: usize = 16 * 1024;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// A Lua value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Val {
    Nil,
    Bool(bool),
    Num(f64),
    Text(Vec<u8>),
    Table(Vec<Val>),
    /// `{ok=…}` and `{err=…}`, as `redis.call` answers.
    Status(String),
    Error(String),
}

/// Why a script did not come to its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stop {
    /// The compiler's words.
    Compile(String),
    /// Read of a global that the sandbox does not have.
    Global(String),
    /// Any other runtime error.
    Raise(String),
    /// Beyond this sliver.
    Beyond,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Num(f64),
    Text(Vec<u8>),
    Sign(&'static str),
    End,
}

/// Words of the language this sliver leaves alone.
const BEYOND: &[&str] = &[
    "if", "for", "while", "repeat", "function", "do", "goto", "break",
];
/// Libraries the sandbox has.
const LIBRARIES: &[&str] = &[
    "string", "table", "math", "cjson", "cmsgpack", "bit", "struct", "tonumber", "tostring",
    "type", "pairs", "ipairs", "pcall", "error", "unpack", "select", "next", "assert", "redis",
];
const SIGNS: &[&str] = &[
    "..", "==", "~=", "<=", ">=", "+", "-", "*", "/", "%", "(", ")", "{", "}", "[", "]", ",", ".",
    "=", ";", ":", "#", "<", ">", "^",
];

fn tokens(source: &str) -> Result<Vec<Token>, Stop> {
    let mut found = Vec::new();
    let mut rest = source;
    'next: loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, tail)| tail);
            continue;
        }
        let Some(first) = rest.chars().next() else {
            found.push(Token::End);
            return Ok(found);
        };
        if first.is_ascii_alphabetic() || first == '_' {
            let (word, tail) = take(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            found.push(Token::Name(word.to_owned()));
            rest = tail;
        } else if first.is_ascii_digit() {
            let (word, tail) = take(rest, |c| c.is_ascii_alphanumeric() || c == '.');
            let number = match word.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok().map(f64::from),
                None => word.parse().ok(),
            };
            found.push(Token::Num(number.ok_or_else(|| {
                Stop::Compile(format!("malformed number near '{word}'"))
            })?));
            rest = tail;
        } else if first == '"' || first == '\'' {
            let (text, tail) = quoted(rest, first)?;
            found.push(Token::Text(text));
            rest = tail;
        } else {
            for sign in SIGNS {
                if let Some(tail) = rest.strip_prefix(sign) {
                    found.push(Token::Sign(sign));
                    rest = tail;
                    continue 'next;
                }
            }
            return Err(Stop::Compile(format!("unexpected symbol near '{first}'")));
        }
    }
}

fn take(text: &str, more: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !more(c)).unwrap_or(text.len()))
}

fn quoted(text: &str, quote: char) -> Result<(Vec<u8>, &str), Stop> {
    let mut out = String::new();
    let mut chars = text.chars();
    chars.next();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok((out.into_bytes(), chars.as_str())),
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(c) => out.push(c),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(Stop::Compile(format!("unfinished string near '{text}'")))
}

/// Runs `source`; `call` executes `redis.call`.
pub(super) fn run(
    source: &[u8],
    keys: &[Vec<u8>],
    argv: &[Vec<u8>],
    call: &mut dyn FnMut(Vec<Vec<u8>>) -> Val,
) -> Result<Val, Stop> {
    let source = std::str::from_utf8(source).map_err(|_| Stop::Beyond)?;
    if source.len() > SCRIPT_MAX {
        return Err(Stop::Beyond);
    }
    let table = |items: &[Vec<u8>]| Val::Table(items.iter().cloned().map(Val::Text).collect());
    let mut run = Run {
        tokens: tokens(source)?,
        at: 0,
        depth: 0,
        locals: BTreeMap::from([
            ("KEYS".to_owned(), table(keys)),
            ("ARGV".to_owned(), table(argv)),
        ]),
        call,
    };
    run.block()
}

struct Run<'a> {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    locals: BTreeMap<String, Val>,
    call: &'a mut dyn FnMut(Vec<Vec<u8>>) -> Val,
}

impl Run<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = self.at.saturating_add(1);
        token
    }

    fn eat(&mut self, sign: &str) -> bool {
        let hit = matches!(self.peek(), Token::Sign(s) if *s == sign);
        if hit {
            self.at = self.at.saturating_add(1);
        }
        hit
    }

    fn near(&self) -> String {
        match self.peek() {
            Token::Name(name) => name.clone(),
            Token::Num(n) => super::reply::float(*n),
            Token::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "<eof>".to_owned(),
        }
    }

    fn expect(&mut self, sign: &str) -> Result<(), Stop> {
        if self.eat(sign) {
            return Ok(());
        }
        Err(Stop::Compile(format!(
            "'{sign}' expected near '{}'",
            self.near()
        )))
    }

    fn block(&mut self) -> Result<Val, Stop> {
        loop {
            while self.eat(";") {}
            let Token::Name(word) = self.peek().clone() else {
                if *self.peek() == Token::End {
                    return Ok(Val::Nil);
                }
                return Err(Stop::Compile(format!(
                    "unexpected symbol near '{}'",
                    self.near()
                )));
            };
            match word.as_str() {
                "return" => {
                    self.next();
                    if *self.peek() == Token::End || self.eat(";") {
                        return Ok(Val::Nil);
                    }
                    return self.expression();
                }
                "local" => {
                    self.next();
                    let Token::Name(name) = self.next() else {
                        return Err(Stop::Beyond);
                    };
                    if name == "function" {
                        return Err(Stop::Beyond);
                    }
                    let value = if self.eat("=") {
                        self.expression()?
                    } else if self.eat(",") {
                        return Err(Stop::Beyond);
                    } else {
                        Val::Nil
                    };
                    self.locals.insert(name, value);
                }
                word if BEYOND.contains(&word) => return Err(Stop::Beyond),
                _ => self.statement()?,
            }
        }
    }

    /// A call, or an assignment to a name.
    fn statement(&mut self) -> Result<(), Stop> {
        let Token::Name(name) = self.next() else {
            return Err(Stop::Beyond);
        };
        if self.eat("=") {
            if !self.locals.contains_key(&name) {
                return Err(Stop::Raise(format!(
                    "Script attempted to create global variable '{name}'"
                )));
            }
            let value = self.expression()?;
            self.locals.insert(name, value);
            return Ok(());
        }
        if !matches!(self.peek(), Token::Sign("." | "(" | ":" | "[")) {
            return Err(Stop::Compile(format!(
                "'=' expected near '{}'",
                self.near()
            )));
        }
        self.at = self.at.saturating_sub(1);
        self.operand().map(|_| ())
    }

    fn expression(&mut self) -> Result<Val, Stop> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err(Stop::Beyond);
        }
        let mut left = self.sum()?;
        while self.eat("..") {
            let right = self.sum()?;
            let (Some(mut a), Some(b)) = (plain(&left), plain(&right)) else {
                return Err(Stop::Raise("attempt to concatenate a nil value".to_owned()));
            };
            if a.len().saturating_add(b.len()) > SCRIPT_MAX.saturating_mul(16) {
                return Err(Stop::Beyond);
            }
            a.extend(b);
            left = Val::Text(a);
        }
        self.depth = self.depth.saturating_sub(1);
        if matches!(
            self.peek(),
            Token::Sign("==" | "~=" | "<=" | ">=" | "<" | ">" | "^")
        ) || matches!(self.peek(), Token::Name(w) if w == "and" || w == "or")
        {
            return Err(Stop::Beyond);
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Val, Stop> {
        let mut left = self.product()?;
        loop {
            let minus = match self.peek() {
                Token::Sign("+") => false,
                Token::Sign("-") => true,
                _ => return Ok(left),
            };
            self.next();
            let (a, b) = (number(&left)?, number(&self.product()?)?);
            left = Val::Num(if minus { a - b } else { a + b });
        }
    }

    fn product(&mut self) -> Result<Val, Stop> {
        let mut left = self.operand()?;
        loop {
            let sign = match self.peek() {
                Token::Sign(sign @ ("*" | "/" | "%")) => *sign,
                _ => return Ok(left),
            };
            self.next();
            let (a, b) = (number(&left)?, number(&self.operand()?)?);
            left = Val::Num(match sign {
                "*" => a * b,
                "/" => a / b,
                _ => a - (a / b).floor() * b,
            });
        }
    }

    fn operand(&mut self) -> Result<Val, Stop> {
        match self.next() {
            Token::Num(n) => Ok(Val::Num(n)),
            Token::Text(text) => Ok(Val::Text(text)),
            Token::Sign("-") => Ok(Val::Num(-number(&self.operand_nested()?)?)),
            Token::Sign("#") => match self.operand_nested()? {
                Val::Text(text) => Ok(count(text.len())),
                Val::Table(items) => Ok(count(items.len())),
                _ => Err(Stop::Beyond),
            },
            Token::Sign("(") => {
                let value = self.expression()?;
                self.expect(")")?;
                Ok(value)
            }
            Token::Sign("{") => {
                let items = self.list("}")?;
                Ok(Val::Table(items))
            }
            Token::Name(name) => self.named(&name),
            _ => {
                self.at = self.at.saturating_sub(1);
                Err(Stop::Compile(format!(
                    "unexpected symbol near '{}'",
                    self.near()
                )))
            }
        }
    }

    fn operand_nested(&mut self) -> Result<Val, Stop> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err(Stop::Beyond);
        }
        let value = self.operand();
        self.depth = self.depth.saturating_sub(1);
        value
    }

    fn named(&mut self, name: &str) -> Result<Val, Stop> {
        match name {
            "nil" => return Ok(Val::Nil),
            "true" => return Ok(Val::Bool(true)),
            "false" => return Ok(Val::Bool(false)),
            "redis" => return self.redis(),
            "tonumber" | "tostring" if self.eat("(") => {
                let args = self.list(")")?;
                let value = args.into_iter().next().unwrap_or(Val::Nil);
                return Ok(if name == "tonumber" {
                    number(&value).map_or(Val::Nil, Val::Num)
                } else {
                    plain(&value).map_or(Val::Nil, Val::Text)
                });
            }
            _ => {}
        }
        let Some(value) = self.locals.get(name).cloned() else {
            if LIBRARIES.contains(&name) || BEYOND.contains(&name) || name == "not" {
                return Err(Stop::Beyond);
            }
            return Err(Stop::Global(name.to_owned()));
        };
        if self.eat("[") {
            let index = number(&self.expression()?)?;
            self.expect("]")?;
            let Val::Table(items) = value else {
                return Err(Stop::Beyond);
            };
            let found = (1..=items.len()).find(|n| number(&count(*n)) == Ok(index));
            return Ok(found
                .and_then(|n| items.get(n.saturating_sub(1)))
                .cloned()
                .unwrap_or(Val::Nil));
        }
        if matches!(self.peek(), Token::Sign("." | ":" | "(")) {
            return Err(Stop::Beyond);
        }
        Ok(value)
    }

    fn redis(&mut self) -> Result<Val, Stop> {
        self.expect(".")?;
        let Token::Name(method) = self.next() else {
            return Err(Stop::Beyond);
        };
        if !self.eat("(") {
            return Err(Stop::Beyond);
        }
        let args = self.list(")")?;
        match method.as_str() {
            "call" | "pcall" => {
                let args: Option<Vec<Vec<u8>>> = args.iter().map(plain).collect();
                let Some(args) = args.filter(|a| !a.is_empty()) else {
                    return Err(Stop::Raise(
                        "Lua redis() command arguments must be strings or integers".to_owned(),
                    ));
                };
                match (self.call)(args) {
                    Val::Error(text) if method == "call" => Err(Stop::Raise(text)),
                    value => Ok(value),
                }
            }
            "status_reply" | "error_reply" => {
                let text = args.first().and_then(plain).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                Ok(if method == "status_reply" {
                    Val::Status(text)
                } else {
                    Val::Error(text)
                })
            }
            "sha1hex" => {
                let text = args.first().and_then(plain).unwrap_or_default();
                Ok(Val::Text(super::script::sha1(&text).into_bytes()))
            }
            _ => Err(Stop::Beyond),
        }
    }

    fn list(&mut self, close: &str) -> Result<Vec<Val>, Stop> {
        let mut items = Vec::new();
        loop {
            if self.eat(close) {
                return Ok(items);
            }
            items.push(self.expression()?);
            if !self.eat(",") && !self.eat(";") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }
}

fn count(n: usize) -> Val {
    Val::Num(u32::try_from(n).map_or(f64::MAX, f64::from))
}

fn number(value: &Val) -> Result<f64, Stop> {
    let parsed = match value {
        Val::Num(n) => Some(*n),
        Val::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|t| t.trim().parse().ok()),
        _ => None,
    };
    parsed.ok_or_else(|| Stop::Raise("attempt to perform arithmetic on a nil value".to_owned()))
}

fn plain(value: &Val) -> Option<Vec<u8>> {
    match value {
        Val::Text(text) => Some(text.clone()),
        Val::Num(n) => Some(super::reply::float(*n).into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn eval(source: &str) -> Result<Val, Stop> {
        run(source.as_bytes(), &[b"k".to_vec()], &[], &mut |_| Val::Nil)
    }

    #[test]
    fn the_usual_probes_get_their_answer() {
        assert_eq!(eval("return 7*191"), Ok(Val::Num(1337.0)));
        assert_eq!(
            eval("local a = 'x' return a..1"),
            Ok(Val::Text(b"x1".to_vec()))
        );
        assert_eq!(eval("return KEYS[1]"), Ok(Val::Text(b"k".to_vec())));
        assert_eq!(
            eval("return os.execute('id')"),
            Err(Stop::Global("os".into()))
        );
        assert_eq!(
            eval("local io_l = package.loadlib('/x', 'luaopen_io')"),
            Err(Stop::Global("package".into()))
        );
        assert_eq!(
            eval("foo"),
            Err(Stop::Compile("'=' expected near '<eof>'".into()))
        );
    }

    proptest! {
        #[test]
        fn any_script_ends(source in any::<String>()) {
            let _end = eval(&source);
        }

        #[test]
        fn any_tokens_end(parts in prop::collection::vec(prop_oneof![
            Just("return "), Just("local a="), Just("("), Just(")"), Just("{"), Just("-"),
            Just("1"), Just("'x'"), Just(".."), Just("redis.call("), Just("KEYS["), Just("]"), Just("#"), Just(","),
        ], 0..200)) {
            let _end = eval(&parts.concat());
        }
    }
}
