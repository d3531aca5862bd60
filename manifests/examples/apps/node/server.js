// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// An example of a server in Node.js that takes up its new certificates while it runs: new connections see them, established ones stay.
// It lets in only clients with a certificate of the same signerName.
'use strict';
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');

const directory = process.env.TLS_DIRECTORY || '/var/run/secrets/certwright.dev/tls';
const port = Number(process.env.PORT || 8443);

// All files are links below ..data, a link that is replaced when they change. Where it leads are files that belong together.
const generation = () => fs.realpathSync(path.join(directory, '..data'));

function read(from) {
  const file = (name) => fs.readFileSync(path.join(from, name));
  return { cert: file('tls.crt'), key: file('tls.key'), ca: file('ca.crt'), minVersion: 'TLSv1.2' };
}

let current = generation();
const server = https.createServer({ ...read(current), requestCert: true, rejectUnauthorized: true }, (request, response) => {
  response.end(`hello ${request.socket.getPeerCertificate().subjectaltname}\n`);
});

let timer;
fs.watch(directory, () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    try {
      const next = generation();
      if (next === current) return;
      server.setSecureContext(read(next));
      current = next;
      console.log('serving with a new certificate');
    } catch (error) {
      console.error(`keeping the certificate that is in use: ${error.message}`);
    }
  }, 100);
});

server.listen(port, () => console.log(`listening on ${port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
