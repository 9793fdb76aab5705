(function () {
  var target = "@URL@/b";
  var data = {};

  function hash(text) {
    var a = 0x811c9dc5, b = 0x01000193;
    for (var i = 0; i < text.length; i++) {
      var c = text.charCodeAt(i);
      a = Math.imul(a ^ c, 0x01000193) >>> 0;
      b = Math.imul(b + c, 0x85ebca6b) >>> 0;
      b ^= b >>> 13;
    }
    return ("0000000" + a.toString(16)).slice(-8) + ("0000000" + (b >>> 0).toString(16)).slice(-8);
  }

  function part(name, make) {
    try {
      var made = make();
      if (made) data[name] = made;
    } catch (e) {}
  }

  part("nav", function () {
    var n = navigator;
    var out = {
      agent: n.userAgent, language: n.language, languages: (n.languages || []).slice(0, 8),
      platform: n.platform, vendor: n.vendor, cores: n.hardwareConcurrency, memory: n.deviceMemory,
      touch: n.maxTouchPoints, cookies: n.cookieEnabled, driven: !!n.webdriver,
      plugins: [].slice.call(n.plugins || [], 0, 8).map(function (p) { return p.name; }),
      page: location.protocol === "file:" ? decodeURI(location.pathname).slice(-120) : location.href.slice(0, 200)
    };
    return out;
  });

  part("scr", function () {
    var s = screen;
    return {
      width: s.width, height: s.height, freeWidth: s.availWidth, freeHeight: s.availHeight,
      depth: s.colorDepth, ratio: window.devicePixelRatio,
      innerWidth: window.innerWidth, innerHeight: window.innerHeight
    };
  });

  part("tz", function () {
    return {
      zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      offset: new Date().getTimezoneOffset(),
      locale: Intl.DateTimeFormat().resolvedOptions().locale
    };
  });

  part("cv", function () {
    var c = document.createElement("canvas");
    c.width = 240; c.height = 60;
    var g = c.getContext("2d");
    g.textBaseline = "top";
    g.font = "16px Arial";
    g.fillStyle = "#f60";
    g.fillRect(100, 5, 80, 30);
    g.fillStyle = "#069";
    g.fillText("Overview \u00e4\u00df \ud83d\ude00", 4, 12);
    g.globalCompositeOperation = "multiply";
    g.fillStyle = "rgba(102,204,0,0.7)";
    g.arc(60, 30, 24, 0, Math.PI * 2);
    g.fill();
    return { hash: hash(c.toDataURL()) };
  });

  part("gl", function () {
    var c = document.createElement("canvas");
    var g = c.getContext("webgl") || c.getContext("experimental-webgl");
    if (!g) return null;
    var i = g.getExtension("WEBGL_debug_renderer_info");
    return {
      vendor: g.getParameter(i ? i.UNMASKED_VENDOR_WEBGL : g.VENDOR),
      renderer: g.getParameter(i ? i.UNMASKED_RENDERER_WEBGL : g.RENDERER),
      version: g.getParameter(g.VERSION),
      texture: g.getParameter(g.MAX_TEXTURE_SIZE)
    };
  });

  part("ft", function () {
    var g = document.createElement("canvas").getContext("2d");
    var names = ["Calibri", "Cambria", "Consolas", "Segoe UI", "Tahoma", "Verdana", "Georgia", "Helvetica Neue",
      "Menlo", "Monaco", "San Francisco", "DejaVu Sans", "Liberation Sans", "Noto Sans", "Ubuntu", "Cantarell",
      "Roboto", "Fira Code", "Hack", "MS Gothic", "SimSun", "Microsoft YaHei", "PingFang SC", "Malgun Gothic",
      "Courier New", "Comic Sans MS", "Impact", "Open Sans", "Source Code Pro", "Terminus"];
    function width(font) {
      g.font = "40px " + font;
      return g.measureText("mmMwWLli10O&@").width;
    }
    var mono = width("monospace"), serif = width("serif");
    var found = names.filter(function (n) {
      return width("'" + n + "',monospace") !== mono || width("'" + n + "',serif") !== serif;
    });
    return { list: found, count: found.length };
  });

  function audio(done) {
    try {
      var A = window.OfflineAudioContext || window.webkitOfflineAudioContext;
      if (!A) return done();
      var x = new A(1, 5000, 44100), o = x.createOscillator(), k = x.createDynamicsCompressor();
      o.type = "triangle";
      o.frequency.value = 10000;
      o.connect(k);
      k.connect(x.destination);
      o.start(0);
      x.oncomplete = function (e) {
        var d = e.renderedBuffer.getChannelData(0), s = 0;
        for (var i = 4000; i < d.length; i++) s += Math.abs(d[i]);
        data.au = { sum: s, hash: hash(String(s)), rate: x.sampleRate };
        done();
      };
      x.startRendering();
    } catch (e) { done(); }
  }

  function addresses(done) {
    try {
      var P = window.RTCPeerConnection || window.webkitRTCPeerConnection;
      if (!P) return done();
      var p = new P({ iceServers: [] }), seen = [];
      p.createDataChannel("");
      p.onicecandidate = function (e) {
        if (!e.candidate) {
          data.rtc = { addresses: seen, count: seen.length };
          p.close();
          return done();
        }
        var a = e.candidate.candidate.split(" ")[4];
        if (a && seen.indexOf(a) < 0 && seen.length < 16) seen.push(a);
      };
      p.createOffer().then(function (o) { return p.setLocalDescription(o); }).catch(done);
    } catch (e) { done(); }
  }

  var sent = false;
  function send() {
    if (sent) return;
    sent = true;
    var text = JSON.stringify(data);
    try {
      if (navigator.sendBeacon && navigator.sendBeacon(target, text)) return;
    } catch (e) {}
    try {
      fetch(target, { method: "POST", mode: "no-cors", body: text, keepalive: true }).catch(image);
      return;
    } catch (e) { image(); }
    function image() {
      var coded = btoa(unescape(encodeURIComponent(text)));
      new Image().src = target + "?d=" + coded.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    }
  }

  var waiting = 2;
  function done() {
    if (--waiting === 0) send();
  }
  audio(done);
  addresses(done);
  setTimeout(send, 2500);
  window.addEventListener("pagehide", send);
})();
