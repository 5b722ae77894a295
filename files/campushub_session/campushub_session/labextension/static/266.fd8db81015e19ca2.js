"use strict";(self.rspackChunkcampushub_session=self.rspackChunkcampushub_session||[]).push([[266],{475(e,n,a){var t=a(601),r=a.n(t),o=a(314),i=(a.n(o))()(r());i.push([e.id,`.campushub-Usage {
  display: flex;
  min-width: 0;
  margin-left: auto;
  overflow: hidden;
  align-items: center;
  padding: 0 8px;
}

.campushub-Usage[hidden] {
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
  min-width: min(480px, 80vw);
  overflow-x: auto;
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
  max-width: min(360px, 40vw);
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.campushub-Space td:last-child {
  white-space: normal;
}

.campushub-Space p[role='status']:empty {
  display: none;
}

.campushub-Space p button {
  margin-left: 8px;
}

/* In a corner, where it covers least of the work; over dialogs, which open when the server has gone. */
.campushub-Stack {
  position: fixed;
  right: 0;
  bottom: 24px;
  z-index: 10002;
  display: flex;
  box-sizing: border-box;
  max-width: min(512px, 100vw);
  max-height: calc(100vh - 64px);
  flex-direction: column;
  gap: 8px;
  align-items: end;
  /* With room for shadows, which would be cut off as well. */
  padding: 16px;
  overflow-y: auto;
  pointer-events: none;
}

.campushub-Announcement,
.campushub-End {
  box-sizing: border-box;
  max-width: 100%;
  flex: none;
  background: var(--jp-layout-color1);
  box-shadow: var(--jp-elevation-z6);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size2);
  overflow-wrap: anywhere;
  pointer-events: auto;
  white-space: pre-line;
}

.campushub-Announcement {
  display: flex;
  gap: 12px;
  align-items: start;
  padding: 10px 16px;
  border-left: 4px solid var(--jp-warn-color1);
}

.campushub-Announcement[hidden] {
  display: none;
}

.campushub-End {
  padding: 12px 16px;
  border-left: 4px solid var(--jp-error-color1);
}

.campushub-End p {
  margin: 0 0 8px;
}

.campushub-End p:empty,
.campushub-End[hidden],
.campushub-End button[hidden] {
  display: none;
}

.campushub-End button {
  margin-right: 8px;
}

.campushub-End button.campushub-Dismiss {
  float: right;
  margin: 0 0 0 12px;
}

.campushub-Dismiss {
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}
`,""]),a.d(n,{},{A:i})},646(e,n,a){var t=a(601),r=a.n(t),o=a(314),i=a.n(o),s=a(475),u=i()(r());u.i(s.A),u.push([e.id,`
`,""]),a.d(n,{},{A:u})},314(e){e.exports=function(e){var n=[];return n.toString=function(){return this.map(function(n){var a="",t=void 0!==n[5];return n[4]&&(a+="@supports (".concat(n[4],") {")),n[2]&&(a+="@media ".concat(n[2]," {")),t&&(a+="@layer".concat(n[5].length>0?" ".concat(n[5]):""," {")),a+=e(n),t&&(a+="}"),n[2]&&(a+="}"),n[4]&&(a+="}"),a}).join("")},n.i=function(e,a,t,r,o){"string"==typeof e&&(e=[[null,e,void 0]]);var i={};if(t)for(var s=0;s<this.length;s++){var u=this[s][0];null!=u&&(i[u]=!0)}for(var c=0;c<e.length;c++){var p=[].concat(e[c]);t&&i[p[0]]||(void 0!==o&&(void 0===p[5]||(p[1]="@layer".concat(p[5].length>0?" ".concat(p[5]):""," {").concat(p[1],"}")),p[5]=o),a&&(p[2]&&(p[1]="@media ".concat(p[2]," {").concat(p[1],"}")),p[2]=a),r&&(p[4]?(p[1]="@supports (".concat(p[4],") {").concat(p[1],"}"),p[4]=r):p[4]="".concat(r)),n.push(p))}},n}},601(e){e.exports=function(e){return e[1]}},665(e,n,a){a.r(n);var t=a(72),r=a.n(t),o=a(825),i=a.n(o),s=a(659),u=a.n(s),c=a(56),p=a.n(c),d=a(540),l=a.n(d),h=a(113),m=a.n(h),f=a(646),b={};b.styleTagTransform=m(),b.setAttributes=p(),b.insert=u().bind(null,"head"),b.domAPI=i(),b.insertStyleElement=l(),r()(f.A,b);let v=f.A&&f.A.locals?f.A.locals:void 0;a.d(n,{},{default:v})},72(e){var n=[];function a(e){for(var a=-1,t=0;t<n.length;t++)if(n[t].identifier===e){a=t;break}return a}function t(e,t){for(var r={},o=[],i=0;i<e.length;i++){var s=e[i],u=t.base?s[0]+t.base:s[0],c=r[u]||0,p="".concat(u," ").concat(c);r[u]=c+1;var d=a(p),l={css:s[1],media:s[2],sourceMap:s[3],supports:s[4],layer:s[5]};if(-1!==d)n[d].references++,n[d].updater(l);else{var h=function(e,n){var a=n.domAPI(n);return a.update(e),function(n){n?(n.css!==e.css||n.media!==e.media||n.sourceMap!==e.sourceMap||n.supports!==e.supports||n.layer!==e.layer)&&a.update(e=n):a.remove()}}(l,t);t.byIndex=i,n.splice(i,0,{identifier:p,updater:h,references:1})}o.push(p)}return o}e.exports=function(e,r){var o=t(e=e||[],r=r||{});return function(e){e=e||[];for(var i=0;i<o.length;i++){var s=a(o[i]);n[s].references--}for(var u=t(e,r),c=0;c<o.length;c++){var p=a(o[c]);0===n[p].references&&(n[p].updater(),n.splice(p,1))}o=u}}},659(e){var n={};e.exports=function(e,a){var t=function(e){if(void 0===n[e]){var a=document.querySelector(e);if(window.HTMLIFrameElement&&a instanceof window.HTMLIFrameElement)try{a=a.contentDocument.head}catch(e){a=null}n[e]=a}return n[e]}(e);if(!t)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");t.appendChild(a)}},540(e){e.exports=function(e){var n=document.createElement("style");return e.setAttributes(n,e.attributes),e.insert(n,e.options),n}},56(e,n,a){e.exports=function(e){var n=a.nc;n&&e.setAttribute("nonce",n)}},825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var n=e.insertStyleElement(e);return{update:function(a){var t,r,o;t="",a.supports&&(t+="@supports (".concat(a.supports,") {")),a.media&&(t+="@media ".concat(a.media," {")),(r=void 0!==a.layer)&&(t+="@layer".concat(a.layer.length>0?" ".concat(a.layer):""," {")),t+=a.css,r&&(t+="}"),a.media&&(t+="}"),a.supports&&(t+="}"),(o=a.sourceMap)&&"u">typeof btoa&&(t+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(o))))," */")),e.styleTagTransform(t,n,e.options)},remove:function(){var e;null===(e=n).parentNode||e.parentNode.removeChild(e)}}}},113(e){e.exports=function(e,n){if(n.styleSheet)n.styleSheet.cssText=e;else{for(;n.firstChild;)n.removeChild(n.firstChild);n.appendChild(document.createTextNode(e))}}}}]);