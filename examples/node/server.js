// Notes in a file, by Node alone: no package is installed.
"use strict";
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

// What is linked from shared/ outlives releases; on the laptop it is a directory of one's own.
const directory = path.join(__dirname, "notes");
fs.mkdirSync(directory, { recursive: true });
const file = path.join(directory, "notes.txt");

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

function page() {
  const notes = fs.existsSync(file) ? fs.readFileSync(file, "utf8").split("\n").filter(Boolean) : [];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Notes</title>
<link rel="stylesheet" href="/assets/notes.css">
<h1>Notes</h1>
<ul>${notes.map((note) => `<li>${escaped(note)}</li>`).join("")}</ul>
<form method="post"><input name="text" maxlength="200" required> <button>Write</button></form>
</html>
`;
}

const server = http.createServer((request, response) => {
  if (request.method !== "POST") {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    return response.end(page());
  }
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const text = (new URLSearchParams(body).get("text") ?? "").replace(/\s+/g, " ").slice(0, 200);
    fs.appendFileSync(file, `${text}\n`);
    response.writeHead(303, { Location: "/" }).end();
  });
});

// The socket is receiver's to name; nginx, which is another user, has to be let in.
const socket = process.env.RECEIVER_SOCKET;
server.listen(socket ? { path: socket, readableAll: true, writableAll: true } : { port: 8000 });

// Takes no new requests, ends those that run, and then itself.
process.on("SIGTERM", () => server.close());
