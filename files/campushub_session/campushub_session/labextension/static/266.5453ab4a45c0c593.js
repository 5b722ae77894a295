"use strict";(self.rspackChunkcampushub_session=self.rspackChunkcampushub_session||[]).push([[266],{475(e,t,n){var a=n(601),r=n.n(a),o=n(314),s=(n.n(o))()(r());s.push([e.id,`.campushub-Usage {
  display: flex;
  min-width: 0;
  margin-left: auto;
  overflow: hidden;
  align-items: center;
  padding: 0 8px;
}

.campushub-Usage.lm-mod-hidden {
  display: none;
}

.campushub-Usage button {
  display: flex;
  gap: 12px;
  padding: 2px 8px;
  border: none;
  border-radius: 3px;
  background: none;
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  font-variant-numeric: tabular-nums;
  white-space: nowrap;
  cursor: pointer;
}

.campushub-Usage button:hover,
.campushub-Usage button:focus-visible {
  background: var(--jp-layout-color2);
}

.campushub-Usage span[data-level='warning'],
.campushub-Usage span[data-level='critical'] {
  padding: 0 6px;
  border-radius: 3px;
  font-weight: 600;
}

/* Read by everybody on these backgrounds, in light and in dark themes. */
.campushub-Usage span[data-level='warning'] {
  background: #ffca28;
  color: #212121;
}

.campushub-Usage span[data-level='critical'] {
  background: #c62828;
  color: #fff;
}

.campushub-Programs {
  min-width: 480px;
}

.campushub-Programs table {
  width: 100%;
  border-collapse: collapse;
}

.campushub-Programs thead td {
  color: var(--jp-ui-font-color2);
}

.campushub-Programs td {
  padding: 3px 8px;
}

.campushub-Programs td:nth-child(2),
.campushub-Programs td:nth-child(3),
.campushub-Programs td:nth-child(4) {
  text-align: right;
  white-space: nowrap;
}

.campushub-Programs td:first-child {
  max-width: 360px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.campushub-Space td:last-child {
  white-space: normal;
}

.campushub-Space p button {
  margin-left: 8px;
}

.campushub-Announcement {
  position: fixed;
  bottom: 40px;
  left: 50%;
  z-index: 10001;
  display: flex;
  max-width: min(720px, 90vw);
  gap: 12px;
  align-items: start;
  padding: 10px 16px;
  border-left: 4px solid var(--jp-warn-color1);
  transform: translateX(-50%);
  background: var(--jp-layout-color1);
  box-shadow: var(--jp-elevation-z6);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size2);
  white-space: pre-line;
}

.campushub-Announcement[hidden] {
  display: none;
}

.campushub-Announcement button {
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}
`,""]),n.d(t,{},{A:s})},646(e,t,n){var a=n(601),r=n.n(a),o=n(314),s=n.n(o),i=n(475),c=s()(r());c.i(i.A),c.push([e.id,`
`,""]),n.d(t,{},{A:c})},314(e){e.exports=function(e){var t=[];return t.toString=function(){return this.map(function(t){var n="",a=void 0!==t[5];return t[4]&&(n+="@supports (".concat(t[4],") {")),t[2]&&(n+="@media ".concat(t[2]," {")),a&&(n+="@layer".concat(t[5].length>0?" ".concat(t[5]):""," {")),n+=e(t),a&&(n+="}"),t[2]&&(n+="}"),t[4]&&(n+="}"),n}).join("")},t.i=function(e,n,a,r,o){"string"==typeof e&&(e=[[null,e,void 0]]);var s={};if(a)for(var i=0;i<this.length;i++){var c=this[i][0];null!=c&&(s[c]=!0)}for(var u=0;u<e.length;u++){var p=[].concat(e[u]);a&&s[p[0]]||(void 0!==o&&(void 0===p[5]||(p[1]="@layer".concat(p[5].length>0?" ".concat(p[5]):""," {").concat(p[1],"}")),p[5]=o),n&&(p[2]&&(p[1]="@media ".concat(p[2]," {").concat(p[1],"}")),p[2]=n),r&&(p[4]?(p[1]="@supports (".concat(p[4],") {").concat(p[1],"}"),p[4]=r):p[4]="".concat(r)),t.push(p))}},t}},601(e){e.exports=function(e){return e[1]}},665(e,t,n){n.r(t);var a=n(72),r=n.n(a),o=n(825),s=n.n(o),i=n(659),c=n.n(i),u=n(56),p=n.n(u),l=n(540),d=n.n(l),f=n(113),h=n.n(f),m=n(646),v={};v.styleTagTransform=h(),v.setAttributes=p(),v.insert=c().bind(null,"head"),v.domAPI=s(),v.insertStyleElement=d(),r()(m.A,v);let b=m.A&&m.A.locals?m.A.locals:void 0;n.d(t,{},{default:b})},72(e){var t=[];function n(e){for(var n=-1,a=0;a<t.length;a++)if(t[a].identifier===e){n=a;break}return n}function a(e,a){for(var r={},o=[],s=0;s<e.length;s++){var i=e[s],c=a.base?i[0]+a.base:i[0],u=r[c]||0,p="".concat(c," ").concat(u);r[c]=u+1;var l=n(p),d={css:i[1],media:i[2],sourceMap:i[3],supports:i[4],layer:i[5]};if(-1!==l)t[l].references++,t[l].updater(d);else{var f=function(e,t){var n=t.domAPI(t);return n.update(e),function(t){t?(t.css!==e.css||t.media!==e.media||t.sourceMap!==e.sourceMap||t.supports!==e.supports||t.layer!==e.layer)&&n.update(e=t):n.remove()}}(d,a);a.byIndex=s,t.splice(s,0,{identifier:p,updater:f,references:1})}o.push(p)}return o}e.exports=function(e,r){var o=a(e=e||[],r=r||{});return function(e){e=e||[];for(var s=0;s<o.length;s++){var i=n(o[s]);t[i].references--}for(var c=a(e,r),u=0;u<o.length;u++){var p=n(o[u]);0===t[p].references&&(t[p].updater(),t.splice(p,1))}o=c}}},659(e){var t={};e.exports=function(e,n){var a=function(e){if(void 0===t[e]){var n=document.querySelector(e);if(window.HTMLIFrameElement&&n instanceof window.HTMLIFrameElement)try{n=n.contentDocument.head}catch(e){n=null}t[e]=n}return t[e]}(e);if(!a)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");a.appendChild(n)}},540(e){e.exports=function(e){var t=document.createElement("style");return e.setAttributes(t,e.attributes),e.insert(t,e.options),t}},56(e,t,n){e.exports=function(e){var t=n.nc;t&&e.setAttribute("nonce",t)}},825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var t=e.insertStyleElement(e);return{update:function(n){var a,r,o;a="",n.supports&&(a+="@supports (".concat(n.supports,") {")),n.media&&(a+="@media ".concat(n.media," {")),(r=void 0!==n.layer)&&(a+="@layer".concat(n.layer.length>0?" ".concat(n.layer):""," {")),a+=n.css,r&&(a+="}"),n.media&&(a+="}"),n.supports&&(a+="}"),(o=n.sourceMap)&&"u">typeof btoa&&(a+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(o))))," */")),e.styleTagTransform(a,t,e.options)},remove:function(){var e;null===(e=t).parentNode||e.parentNode.removeChild(e)}}}},113(e){e.exports=function(e,t){if(t.styleSheet)t.styleSheet.cssText=e;else{for(;t.firstChild;)t.removeChild(t.firstChild);t.appendChild(document.createTextNode(e))}}}}]);