// An instance on node: files, bodies summed up, and a WebSocket echo whose frames are read by hand.
//
//   node server.js PORT FOLDER
//
// GET /small, /large   a file of FOLDER, with its length
// GET /chunked         /large without a length, and its digest in a trailer
// any  /echo           what arrived: {"method", "length", "sha256", "expect"}
// GET /connections     how many connections were made so far
// /websocket           sends every message back; "close me" is answered with a close of code 4002
// /refused             does not switch protocols: 403

'use strict';
const http = require('http');
const fs = require('fs');
const path = require('path');
const crypto = require('crypto');

const [, , port, folder] = process.argv;
let connections = 0;

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://a');
  if (pathname === '/connections') return response.end(String(connections));
  if (pathname === '/echo') return sumUp(request, response);
  if (pathname === '/chunked') return stream(response);
  const file = path.join(folder, path.basename(pathname));
  if (!fs.existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { 'Content-Length': fs.statSync(file).size });
  if (request.method === 'HEAD') return response.end();
  fs.createReadStream(file).pipe(response);
});

function sumUp(request, response) {
  const digest = crypto.createHash('sha256');
  let length = 0;
  request.on('data', (piece) => {
    digest.update(piece);
    length += piece.length;
  });
  request.on('end', () => {
    const { method, headers } = request;
    const sha256 = digest.digest('hex');
    const body = JSON.stringify({ method, length, sha256, expect: headers.expect ?? null });
    response.writeHead(200, { 'Content-Length': body.length }).end(body);
  });
}

function stream(response) {
  const digest = crypto.createHash('sha256');
  response.writeHead(200, { Trailer: 'X-Sha256' });
  const file = fs.createReadStream(path.join(folder, 'large'));
  file.on('data', (piece) => digest.update(piece));
  file.on('end', () => {
    response.addTrailers({ 'X-Sha256': digest.digest('hex') });
    response.end();
  });
  file.pipe(response, { end: false });
}

// RFC 6455: the opening handshake, and frames without extensions.
server.on('upgrade', (request, socket, first) => {
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  if (request.url === '/refused') {
    return socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno\n');
  }
  const accept = crypto
    .createHash('sha1')
    .update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
    .digest('base64');
  const protocol = request.headers['sec-websocket-protocol'];
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n` +
      (protocol ? `Sec-WebSocket-Protocol: ${protocol.split(',')[0].trim()}\r\n` : '') +
      '\r\n',
  );
  let here = first;
  socket.on('data', (piece) => {
    here = Buffer.concat([here, piece]);
    for (let frame; (frame = readFrame(here)); here = here.subarray(frame.end)) answer(socket, frame);
  });
});

function readFrame(bytes) {
  if (bytes.length < 6) return null;
  let length = bytes[1] & 0x7f;
  let at = 2;
  if (length === 126) {
    length = bytes.readUInt16BE(2);
    at = 4;
  } else if (length === 127) {
    if (bytes.length < 14) return null;
    length = Number(bytes.readBigUInt64BE(2));
    at = 10;
  }
  const end = at + 4 + length;
  if (bytes.length < end) return null;
  const mask = bytes.subarray(at, at + 4);
  const data = Buffer.from(bytes.subarray(at + 4, end));
  for (let i = 0; i < length; i++) data[i] ^= mask[i & 3];
  return { first: bytes[0], data, end };
}

function answer(socket, { first, data }) {
  const CONTINUATION_TEXT_BINARY = [0, 1, 2];
  const opcode = first & 0x0f;
  if (opcode === 8) return socket.end(frame(0x88, data));
  if (opcode === 9) return socket.write(frame(0x8a, data));
  if (!CONTINUATION_TEXT_BINARY.includes(opcode)) return;
  if (data.toString('latin1') === 'close me') return socket.write(frame(0x88, Buffer.from([0x0f, 0xa2])));
  socket.write(frame(first, data));
}

function frame(first, data) {
  const head = Buffer.alloc(10);
  head[0] = first;
  if (data.length < 126) {
    head[1] = data.length;
    return Buffer.concat([head.subarray(0, 2), data]);
  }
  if (data.length < 65536) {
    head[1] = 126;
    head.writeUInt16BE(data.length, 2);
    return Buffer.concat([head.subarray(0, 4), data]);
  }
  head[1] = 127;
  head.writeBigUInt64BE(BigInt(data.length), 2);
  return Buffer.concat([head, data]);
}

server.on('connection', () => (connections += 1));
server.listen(Number(port), '127.0.0.1');
