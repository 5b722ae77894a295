// The proxy passes the Host header of browsers on, and Node would look for that name in the certificate of a server on a
// node. With no name here it looks for the address that it connects to.
const https = require("node:https");

const request = https.request;
https.request = (options, ...rest) => request({ servername: "", ...options }, ...rest);
